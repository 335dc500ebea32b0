"""When a channel needs another manifest, and what it says. Pure but for the key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.registry import Entry
from shared.errors import ArtefactError
from shared.releases.manifest import Manifest, Void, open_manifest, sign_manifest
from shared.releases.release import Release
from shared.releases.rollout import Rollout
from shared.releases.trust import Trust

DAY_S = 86_400
RENEWED_SHARE = 1 / 3
"""Of its lifetime is left when a manifest is signed anew: so much time an outage may last."""


@dataclass(frozen=True)
class Wanted:
    """What the newest manifest of a channel has to say, whatever its number and dates."""

    channel: str
    state: Literal["active", "halted"]
    release: Release
    rollout: Rollout
    retry_epoch: int = 0
    void: Void | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Wanted:
        """Returns what a manifest says."""
        return cls(
            manifest.channel,
            manifest.state,
            manifest.release,
            manifest.rollout,
            manifest.retry_epoch,
            manifest.void,
        )


class Signer:
    """Signs manifests.

    Args:
        key: signs.
        trust: the document in force: its epoch stands in what is signed.
        release_days: how long a manifest may be accepted.
    """

    def __init__(self, key: Ed25519PrivateKey, trust: Trust, release_days: float) -> None:
        self._key = key
        self._trust = trust
        self._lifetime_s = release_days * DAY_S

    def use(self, key: Ed25519PrivateKey, trust: Trust) -> None:
        """Signs with another key from now on, or under another document."""
        self._key = key
        self._trust = trust

    def why_due(self, newest: Entry | None, wanted: Wanted, now_s: float) -> str:
        """Returns why another manifest is due; empty if the newest does.

        Args:
            newest: of the channel.
            wanted: what it has to say.
            now_s: seconds since 1970.
        """
        if newest is None:
            return "there was none before"
        if Wanted.of(newest.manifest) != wanted:
            return "the one before says something else"
        try:
            manifest = open_manifest(newest.envelope, self._trust.releases)
        except ArtefactError:
            return "the release keys have changed"
        if manifest.key_epoch != self._trust.key_epoch:
            return f"key epoch {self._trust.key_epoch} is in force"
        lifetime_s = manifest.expires - manifest.issued
        if now_s >= manifest.expires - RENEWED_SHARE * lifetime_s:
            return "it expires soon"
        return ""

    def sign(self, wanted: Wanted, seq: int, now_s: float, after: Entry | None = None) -> bytes:
        """Returns a signed manifest.

        Args:
            wanted: what it says.
            seq: its number.
            now_s: seconds since 1970.
            after: the manifest before it. It is issued no earlier than that, for no node takes a
                time before that for the present.

        Raises:
            ManifestError: it contradicts itself, or is too large.
        """
        issued = now_s if after is None else max(now_s, after.manifest.issued)
        manifest = Manifest(
            channel=wanted.channel,
            key_epoch=self._trust.key_epoch,
            seq=seq,
            issued=issued,
            expires=issued + self._lifetime_s,
            state=wanted.state,
            release=wanted.release,
            rollout=wanted.rollout,
            retry_epoch=wanted.retry_epoch,
            void=wanted.void,
        )
        return sign_manifest(manifest, [self._key])
