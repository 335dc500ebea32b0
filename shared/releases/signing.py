"""Signed manifests as bytes. Takes bytes, knows no disk and no network.

An envelope is ``MAGIC | key id (8) | Ed25519 signature (64) | body``; the signature covers a domain
prefix and the body, so that it can stand for nothing else that the same key may sign.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from shared.errors import ConfigError, ManifestError, SignatureError
from shared.releases.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest

MAGIC = b"ESCALON1"
DOMAIN = b"escalon release manifest v1\0"
KEY_ID_BYTES = 8
SIGNATURE_BYTES = 64
HEADER_BYTES = len(MAGIC) + KEY_ID_BYTES + SIGNATURE_BYTES
END_OF_KEY = b"-----END PUBLIC KEY-----"

Trust = Mapping[bytes, Ed25519PublicKey]
"""The keys that may sign releases, by key id."""


def key_id(key: Ed25519PublicKey) -> bytes:
    """Returns the first 8 bytes of the SHA-256 of the raw public key."""
    return hashlib.sha256(key.public_bytes_raw()).digest()[:KEY_ID_BYTES]


def new_key_pem() -> bytes:
    """Makes a release key: PKCS #8, PEM, not encrypted."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(private_pem: bytes) -> bytes:
    """Returns the public half of a release key as PEM, for the nodes' trust file."""
    public = load_private_key(private_pem).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def load_private_key(pem: bytes) -> Ed25519PrivateKey:
    """Reads a release key.

    Raises:
        ConfigError: not an Ed25519 private key in PEM.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"the release key is no private key in PEM: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("the release key is not an Ed25519 key")
    return key


def load_trust(pem: bytes) -> Trust:
    """Reads a trust file: one or more Ed25519 public keys in PEM.

    Raises:
        ConfigError: no key in it, or one of another kind.
    """
    trust = {}
    for block in pem.split(END_OF_KEY)[:-1]:
        try:
            key = load_pem_public_key(block.strip() + b"\n" + END_OF_KEY + b"\n")
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"the trust file holds a broken key: {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise ConfigError("the trust file holds a key that is not Ed25519")
        trust[key_id(key)] = key
    if not trust:
        raise ConfigError("the trust file holds no public key in PEM")
    return trust


def sign(manifest: Manifest, key: Ed25519PrivateKey) -> bytes:
    """Returns the envelope of a manifest.

    Raises:
        ManifestError: it is larger than a node accepts, or contradicts itself.
    """
    body = msgspec.json.encode(manifest)
    parse_manifest(body)
    envelope = MAGIC + key_id(key.public_key()) + key.sign(DOMAIN + body) + body
    if len(envelope) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"{len(envelope)} bytes are more than a node accepts")
    return envelope


def open_envelope(envelope: bytes, trust: Trust) -> Manifest:
    """Returns the manifest in an envelope: size first, then signature, then parsing.

    Args:
        envelope: bytes from anywhere.
        trust: the keys that may sign.

    Raises:
        SignatureError: not an envelope, an unknown key, or a wrong signature.
        ManifestError: rightly signed, but no manifest that this node understands.
    """
    if not HEADER_BYTES < len(envelope) <= MAX_MANIFEST_BYTES:
        raise SignatureError(f"{len(envelope)} bytes are no signed manifest")
    if not envelope.startswith(MAGIC):
        raise SignatureError("not a signed manifest")
    identity = envelope[len(MAGIC) : len(MAGIC) + KEY_ID_BYTES]
    signature = envelope[HEADER_BYTES - SIGNATURE_BYTES : HEADER_BYTES]
    body = envelope[HEADER_BYTES:]
    key = trust.get(identity)
    if key is None:
        raise SignatureError(f"signed by key {identity.hex()}, which is not trusted here")
    try:
        key.verify(signature, DOMAIN + body)
    except InvalidSignature as error:
        raise SignatureError(f"wrong signature in the name of key {identity.hex()}") from error
    return parse_manifest(body)
