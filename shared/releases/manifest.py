"""What a channel is to run. It is read only after its signatures were verified."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import ManifestError
from shared.messages import SCHEMA_VERSION, UNREADABLE, Public, refuse_newer
from shared.model_spec import ModelSpec
from shared.releases.envelope import Role, body_of, seal, unseal
from shared.releases.release import Release
from shared.releases.rollout import Rollout

DOMAIN = b"escalon release manifest v2\0"
MAX_MANIFEST_BYTES = 256 * 2**10
MAX_REASON = 500
"""Characters of the words that say why a certificate is void."""


class Void(Public, frozen=True):
    """The certificates of a release promise nothing any more; the release goes on running.

    Attributes:
        reason: why, in words.
        since: seconds since 1970.
    """

    reason: str
    since: float


class Manifest(Public, frozen=True):
    """What a channel is to run.

    Attributes:
        channel: the channel.
        key_epoch: of the trust document whose keys sign it.
        seq: grows with each manifest of the channel and epoch; a wave, a halt and a rollback are
            new ones, too.
        issued: seconds since 1970.
        expires: from then on it may not be accepted; what runs goes on running.
        state: ``halted`` ends what is under way: nobody takes the release any more.
        release: what is to run.
        rollout: who is to run it by now.
        retry_epoch: a node that has rolled the release back tries it again once this is raised.
        void: set where the certificates of the release are void, for drift was seen; a later
            manifest of the release without it restores them.
    """

    channel: str
    key_epoch: int
    seq: int
    issued: float
    expires: float
    state: Literal["active", "halted"]
    release: Release
    rollout: Rollout
    retry_epoch: int = 0
    void: Void | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def order(self) -> tuple[int, int]:
        """What a later manifest has more of: epoch and seq."""
        return (self.key_epoch, self.seq)

    def model_spec(self, sha256: str) -> ModelSpec:
        """Returns what the model loaded from a file of the release needs to know.

        Raises:
            ManifestError: the release has no such file.
        """
        release = self.release
        return ModelSpec(
            self.channel,
            release.version,
            sha256,
            release.labels,
            release.scores,
            release.variant(sha256).calibration,
        )


def sign_manifest(manifest: Manifest, keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """Returns the envelope of a manifest.

    Raises:
        ManifestError: it is larger than a node accepts, or contradicts itself.
    """
    body = msgspec.json.encode(manifest)
    _parse(body)
    envelope = seal(DOMAIN, body, keys)
    if len(envelope) > MAX_MANIFEST_BYTES:
        raise ManifestError(
            f"its manifest has {len(envelope)} bytes, a node accepts {MAX_MANIFEST_BYTES}. "
            "Fix: fewer golden inputs, or a smaller model"
        )
    return envelope


def open_manifest(envelope: bytes, releases: Role) -> Manifest:
    """Returns the manifest in an envelope: size first, then signatures, then parsing.

    Args:
        envelope: bytes from anywhere.
        releases: whose signatures count.

    Raises:
        SignatureError: no envelope, or too few signatures.
        ManifestError: rightly signed, but no manifest that this node understands;
            ``NewerSchemaError`` if a newer one does.
    """
    return _parse(unseal(envelope, DOMAIN, releases, MAX_MANIFEST_BYTES))


def read_manifest(envelope: bytes) -> Manifest:
    """Reads a manifest that was verified when it was accepted.

    A key that was revoked since stops no model that runs: see ``docs/releases.md``.

    Raises:
        SignatureError: no envelope.
        ManifestError: no manifest that this node understands; ``NewerSchemaError`` if a newer one
            does.
    """
    return _parse(body_of(envelope))


def _parse(body: bytes) -> Manifest:
    refuse_newer(body, "the manifest")
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except UNREADABLE as error:
        raise ManifestError(f"the signed bytes are no manifest: {error}") from error
    for problem in _contradictions(manifest):
        raise ManifestError(f"release {manifest.channel} seq {manifest.seq}: {problem}")
    return manifest


def _contradictions(manifest: Manifest) -> list[str]:
    checks = {
        "its key epoch is below 1": manifest.key_epoch >= 1,
        "seq is below 1": manifest.seq >= 1,
        "its retry epoch is below 0": manifest.retry_epoch >= 0,
        "it is issued or expires at no time": math.isfinite(manifest.issued)
        and math.isfinite(manifest.expires),
    }
    void = manifest.void
    if void is not None:
        checks["its certificates are void since no time"] = math.isfinite(void.since)
        checks[f"why they are void takes more than {MAX_REASON} characters"] = (
            len(void.reason) <= MAX_REASON
        )
    problems = [problem for problem, holds in checks.items() if not holds]
    return [*problems, *manifest.release.problems(), *manifest.rollout.problems()]
