"""The next version of a trust document. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import ConfigError
from shared.releases.envelope import MAX_SIGNATURES, Role
from shared.releases.keys import key_id_of, public_hex
from shared.releases.trust import Trust, open_next, sign_trust

Keys = Sequence[Ed25519PrivateKey]


class Step(NamedTuple):
    """From one version to the next.

    Attributes:
        trust: the next version.
        envelope: the same, signed; a node that has the version before accepts it.
    """

    trust: Trust
    envelope: bytes


def signed(after: Trust, keys: Keys, before: Trust) -> Step:
    """Signs a version, and holds it against the version before, as every node will.

    Args:
        after: the version.
        keys: sign it.
        before: the version in force.

    Raises:
        ConfigError: more signatures than an envelope has room for.
        ManifestError: it contradicts itself.
        SignatureError: too few of the old or of the new root keys are among ``keys``.
    """
    if len(keys) > MAX_SIGNATURES:
        raise ConfigError(
            f"{len(keys)} signatures, of the old root keys that it takes and of all new ones, are "
            f"more than the {MAX_SIGNATURES} that a document holds. Fix: make fewer new root keys"
        )
    envelope = sign_trust(after, keys)
    return Step(open_next(envelope, before), envelope)


def rotated(trust: Trust, release: Ed25519PrivateKey, issued: float) -> Trust:
    """Returns a version in which a new release key takes the place of all others.

    What the old keys have signed is accepted no more, and what runs goes on running.

    Args:
        trust: the version in force.
        release: the new release key.
        issued: now, seconds since 1970.
    """
    return _after(trust, issued, releases=Role(keys=(public_hex(release),)))


def handed_over(trust: Trust, root: Keys, threshold: int, issued: float) -> Trust:
    """Returns a version with other root keys. It takes a threshold of the old and of the new ones.

    Args:
        trust: the version in force.
        root: the new root keys, all of them.
        threshold: so many of them must sign the version after that.
        issued: now, seconds since 1970.
    """
    role = Role(keys=tuple(map(public_hex, root)), threshold=threshold)
    return _after(trust, issued, root=role)


def release_key(trust: Trust, identity: str) -> str:
    """Returns a release key in hex.

    Args:
        trust: the version in force.
        identity: the key's id in hex, or the beginning of it.

    Raises:
        ConfigError: no release key, or more than one, has this id.
    """
    found = [key for key in trust.releases.keys if key_id_of(key).startswith(identity)]
    if len(found) != 1:
        known = ", ".join(map(key_id_of, trust.releases.keys))
        raise ConfigError(
            f"{len(found)} release keys of trust version {trust.version} have an id that begins "
            f"with {identity}. Fix: give one of {known}"
        )
    return found[0]


def revoked(trust: Trust, stolen: str, release: Ed25519PrivateKey, issued: float) -> Trust:
    """Returns a version without a stolen release key, in a new key epoch.

    Whatever number the thief has given a manifest, in the new epoch numbers begin anew.

    Args:
        trust: the version in force.
        stolen: the key, in hex.
        release: the key that takes its place.
        issued: now, seconds since 1970.
    """
    kept = [key for key in trust.releases.keys if key != stolen]
    releases = Role(keys=(*kept, public_hex(release)), threshold=trust.releases.threshold)
    return _after(trust, issued, releases=releases, key_epoch=trust.key_epoch + 1)


def _after(trust: Trust, issued: float, **changes: Role | int) -> Trust:
    changed = {"version": trust.version + 1, "issued": issued, **changes}
    return msgspec.structs.replace(trust, **changed)
