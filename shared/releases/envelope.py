"""Signed bytes. Takes bytes, knows no disk and no network, and reads nothing of what was signed.

An envelope is ``MAGIC | n (1) | n x (key id (8) | Ed25519 signature (64)) | body``. A signature
covers a domain prefix and the body, so that it can stand for nothing else that the same key may
sign. What is verified in which order follows The Update Framework, specification 1.0.33, sections
4.2 and 5.3: only distinct keys of the role count towards its threshold, and other signatures are
passed over.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import SignatureError
from shared.messages import Public
from shared.releases.keys import KEY_ID_BYTES, key_id

MAGIC = b"ESCALON2"
SIGNATURE_BYTES = 64
MAX_SIGNATURES = 16
ENTRY_BYTES = KEY_ID_BYTES + SIGNATURE_BYTES


class Role(Public, frozen=True):
    """Whose signatures count, and how many it takes.

    Attributes:
        keys: raw Ed25519 public keys in hex.
        threshold: so many of them must have signed.
    """

    keys: tuple[str, ...]
    threshold: int = 1

    def public_keys(self) -> dict[bytes, Ed25519PublicKey]:
        """Returns the keys by their id."""
        keys = [Ed25519PublicKey.from_public_bytes(bytes.fromhex(each)) for each in self.keys]
        return {key_id(key): key for key in keys}


def seal(domain: bytes, body: bytes, keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """Returns a body in an envelope.

    Args:
        domain: what the signatures are for.
        body: what is signed.
        keys: 1 to 16.
    """
    entries = [key_id(key.public_key()) + key.sign(domain + body) for key in keys]
    return MAGIC + bytes([len(entries)]) + b"".join(entries) + body


def unseal(envelope: bytes, domain: bytes, role: Role, max_bytes: int) -> bytes:
    """Returns the body of an envelope: size first, then form, then signatures.

    Args:
        envelope: bytes from anywhere.
        domain: what the signatures must be for.
        role: whose signatures count.
        max_bytes: of the envelope.

    Raises:
        SignatureError: no envelope, or too few of the role's keys have signed it.
    """
    signatures, body = _split(envelope, max_bytes)
    keys, signers, problems = role.public_keys(), set(), []
    for identity, signature in signatures:
        key = keys.get(identity)
        if key is None:
            problems.append(f"key {identity.hex()} is not trusted here")
            continue
        try:
            key.verify(signature, domain + body)
        except InvalidSignature:
            problems.append(f"wrong signature in the name of key {identity.hex()}")
        else:
            signers.add(identity)
    if len(signers) < role.threshold:
        raise SignatureError(
            f"signed by {len(signers)} of the {role.threshold} keys that it takes"
            + "".join(f"; {problem}" for problem in dict.fromkeys(problems))
        )
    return body


def body_of(envelope: bytes) -> bytes:
    """Returns the body of an envelope that was verified when it was accepted."""
    return _split(envelope, len(envelope))[1]


def _split(envelope: bytes, max_bytes: int) -> tuple[list[tuple[bytes, bytes]], bytes]:
    if len(envelope) > max_bytes:
        raise SignatureError(f"{len(envelope)} bytes are more than the {max_bytes} of the largest")
    if not envelope.startswith(MAGIC) or len(envelope) <= len(MAGIC):
        raise SignatureError("it is not signed: no envelope of this version")
    start, count = len(MAGIC) + 1, envelope[len(MAGIC)]
    end = start + count * ENTRY_BYTES
    if not 1 <= count <= MAX_SIGNATURES or len(envelope) <= end:
        raise SignatureError("it is not signed: no signatures, or nothing behind them")
    entries = [envelope[at : at + ENTRY_BYTES] for at in range(start, end, ENTRY_BYTES)]
    return [(each[:KEY_ID_BYTES], each[KEY_ID_BYTES:]) for each in entries], envelope[end:]
