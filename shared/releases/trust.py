"""Whom a fleet trusts: a versioned, signed document that hands its own keys on. Pure.

The root keys stay offline and sign nothing but this document; the release keys sign manifests. A
new version counts if it is the next one and a threshold of the root keys of the old *and* of the
new version have signed it (The Update Framework, specification 1.0.33, section 5.3).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import ManifestError, SignatureError
from shared.messages import SCHEMA_VERSION, UNREADABLE, Public
from shared.releases.envelope import MAX_SIGNATURES, Role, body_of, seal, unseal
from shared.releases.keys import public_hex

DOMAIN = b"escalon trust v1\0"
MAX_TRUST_BYTES = 32 * 2**10
KEY = re.compile(r"[0-9a-f]{64}")


class Trust(Public, frozen=True):
    """Whom a fleet trusts.

    Attributes:
        version: 1, 2, 3, ... Every version must be seen: each is signed by the keys of the last.
        key_epoch: counts the recoveries from a stolen release key. Manifests of another epoch are
            not accepted, and ``seq`` is only held against manifests of the same epoch.
        issued: seconds since 1970.
        root: who may sign the next version.
        releases: who may sign manifests.
    """

    version: int
    key_epoch: int
    issued: float
    root: Role
    releases: Role
    schema_version: int = SCHEMA_VERSION


class Trusts(Protocol):
    """Tells whom the node trusts."""

    @property
    def current(self) -> Trust:
        """The trust document in force."""


def found_trust(
    root: Sequence[Ed25519PrivateKey],
    releases: Sequence[Ed25519PrivateKey],
    issued: float,
    root_threshold: int = 1,
) -> bytes:
    """Returns the first trust document of a fleet, signed by all its root keys.

    Args:
        root: keys that sign this document's versions.
        releases: keys any of which signs manifests.
        issued: now, seconds since 1970.
        root_threshold: so many root keys must sign the next version.

    Raises:
        ManifestError: the threshold is more than the keys.
    """
    trust = Trust(
        version=1,
        key_epoch=1,
        issued=issued,
        root=Role(keys=tuple(map(public_hex, root)), threshold=root_threshold),
        releases=Role(keys=tuple(map(public_hex, releases))),
    )
    return sign_trust(trust, root)


def sign_trust(trust: Trust, keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """Returns the envelope of a trust document.

    Raises:
        ManifestError: it contradicts itself.
    """
    body = msgspec.json.encode(trust)
    _parse(body)
    return seal(DOMAIN, body, keys)


def open_first(envelope: bytes) -> Trust:
    """Returns the trust document that a node is installed with.

    It came by the hand of who installed the node; its own signatures show that it is whole.

    Raises:
        SignatureError: its own root keys have not signed it.
        ManifestError: it contradicts itself.
    """
    trust = read_trust(envelope)
    unseal(envelope, DOMAIN, trust.root, MAX_TRUST_BYTES)
    return trust


def open_next(envelope: bytes, current: Trust) -> Trust:
    """Returns the next version of a trust document.

    Raises:
        SignatureError: too few of the old or of the new root keys have signed it.
        ManifestError: it is not the next version, goes back an epoch, or contradicts itself.
    """
    trust = _parse(unseal(envelope, DOMAIN, current.root, MAX_TRUST_BYTES))
    if trust.version != current.version + 1:
        raise ManifestError(
            f"trust version {trust.version} does not follow version {current.version}"
        )
    if trust.key_epoch < current.key_epoch:
        raise ManifestError(
            f"key epoch {trust.key_epoch} is older than {current.key_epoch}, which is in force"
        )
    try:
        unseal(envelope, DOMAIN, trust.root, MAX_TRUST_BYTES)
    except SignatureError as error:
        raise SignatureError(f"its new root keys: {error}") from error
    return trust


def read_trust(envelope: bytes) -> Trust:
    """Reads a trust document that was verified, or is to be verified by its own keys.

    Raises:
        SignatureError: too large, or no envelope.
        ManifestError: it contradicts itself.
    """
    if len(envelope) > MAX_TRUST_BYTES:
        raise SignatureError(f"{len(envelope)} bytes are no trust document")
    return _parse(body_of(envelope))


def _parse(body: bytes) -> Trust:
    try:
        trust = msgspec.json.decode(body, type=Trust)
    except UNREADABLE as error:
        raise ManifestError(f"the signed bytes are no trust document: {error}") from error
    for problem in _contradictions(trust):
        raise ManifestError(f"trust version {trust.version}: {problem}")
    return trust


def _contradictions(trust: Trust) -> list[str]:
    checks = {
        "its schema is newer than this node": trust.schema_version <= SCHEMA_VERSION,
        "its version is below 1": trust.version >= 1,
        "its key epoch is below 1": trust.key_epoch >= 1,
    }
    for name, role in (("root", trust.root), ("releases", trust.releases)):
        checks |= {
            f"a key of {name} is not 32 bytes in hex": all(map(KEY.fullmatch, role.keys)),
            f"a key stands twice in {name}": len(set(role.keys)) == len(role.keys),
            f"the threshold of {name} is not within 1 to its number of keys, at most "
            f"{MAX_SIGNATURES}": 1 <= role.threshold <= len(role.keys) <= MAX_SIGNATURES,
        }
    return [problem for problem, holds in checks.items() if not holds]
