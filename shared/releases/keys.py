"""Ed25519 keys: as PEM on a disk, as hex in a trust file, by their id in an envelope."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from shared.errors import ConfigError

KEY_ID_BYTES = 8


def key_id(key: Ed25519PublicKey) -> bytes:
    """Returns the first 8 bytes of the SHA-256 of the raw public key."""
    return hashlib.sha256(key.public_bytes_raw()).digest()[:KEY_ID_BYTES]


def public_hex(key: Ed25519PrivateKey) -> str:
    """Returns the raw public half of a key in hex, as a trust file holds it."""
    return key.public_key().public_bytes_raw().hex()


def key_id_of(public: str) -> str:
    """Returns the id, in hex, of a raw public key in hex."""
    return hashlib.sha256(bytes.fromhex(public)).digest()[:KEY_ID_BYTES].hex()


def new_key_pem() -> bytes:
    """Makes a key: PKCS #8, PEM, not encrypted."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_private_key(pem: bytes, what: str = "the release key") -> Ed25519PrivateKey:
    """Reads a private key.

    Args:
        pem: the file's bytes.
        what: how an error calls it.

    Raises:
        ConfigError: not an Ed25519 private key in PEM.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{what} is no private key in PEM: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{what} is not an Ed25519 key")
    return key
