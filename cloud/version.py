"""A version of a model: what was made, from what, by whom. It never changes once it is there."""

from __future__ import annotations

import hashlib

import msgspec

from shared.errors import ArtefactError, ManifestError
from shared.messages import SCHEMA_VERSION, UNREADABLE, Public, refuse_newer
from shared.releases.manifest import MAX_MANIFEST_BYTES
from shared.releases.release import Release
from shared.topics import NAME

TRAINER = "trainer"
"""Who makes versions without a person."""

MAX_RELEASE_BYTES = MAX_MANIFEST_BYTES - 48 * 2**10
"""What a release may take of its manifest: the named nodes of a rollout need the rest."""


class Version(Public, frozen=True):
    """One version of a channel's model.

    Attributes:
        channel: the channel.
        release: what nodes get: files, calibration, labels, golden inputs and scores.
        made: when, seconds since 1970.
        by: who: ``trainer``, or a person's name.
        parents: versions that it was made from, as ``channel/version``.
        data_sha256: digest of job and data that it was trained from, in hex; empty if unknown.
        metrics: figures of its making, by name.
        notes: anything, in words.
    """

    channel: str
    release: Release
    made: float
    by: str
    parents: tuple[str, ...] = ()
    data_sha256: str = ""
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    notes: str = ""
    schema_version: int = SCHEMA_VERSION

    @property
    def name(self) -> str:
        """Its name in the channel."""
        return self.release.version

    @property
    def qualified(self) -> str:
        """Its name across all channels."""
        return f"{self.channel}/{self.name}"


class _Sealed(Public, frozen=True):
    sha256: str
    version: msgspec.Raw


def check(version: Version) -> None:
    """Refuses what no manifest could carry.

    Raises:
        ManifestError: it contradicts itself, has no usable name, or is too large.
    """
    problems = version.release.problems()
    if not NAME.fullmatch(version.name):
        problems.append(
            f"{version.name[:80]!r} is no name of a version: letters, digits, '.', '_' and '-', "
            "at most 64"
        )
    size = len(msgspec.json.encode(version.release))
    if size > MAX_RELEASE_BYTES:
        problems.append(
            f"{size} bytes are more than the {MAX_RELEASE_BYTES} that a manifest has room for. "
            "Fix: fewer golden inputs, or larger chunks"
        )
    if problems:
        raise ManifestError(f"version {version.qualified}: {'; '.join(problems)}")


def encode(version: Version) -> bytes:
    """Returns a version as its file holds it: JSON, beside the digest of its own bytes."""
    body = msgspec.json.encode(version)
    sealed = _Sealed(sha256=hashlib.sha256(body).hexdigest(), version=msgspec.Raw(body))
    return msgspec.json.encode(sealed) + b"\n"


def decode(data: bytes) -> Version:
    """Reads a version's file.

    Raises:
        NewerSchemaError: a newer Escalon has written it.
        ArtefactError: it is damaged.
    """
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
        body = bytes(sealed.version)
        if hashlib.sha256(body).hexdigest() != sealed.sha256:
            raise ArtefactError("its bytes are not those that were written")
        refuse_newer(body, "the version")
        return msgspec.json.decode(body, type=Version)
    except UNREADABLE as error:
        raise ArtefactError(f"it is no version: {error}") from error
