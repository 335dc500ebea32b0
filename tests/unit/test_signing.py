"""Nothing is parsed that a trusted key did not sign, and nothing signed can be changed."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigError, ManifestError, SignatureError
from shared.releases.manifest import MAX_MANIFEST_BYTES
from shared.releases.signing import (
    DOMAIN,
    HEADER_BYTES,
    KEY_ID_BYTES,
    MAGIC,
    key_id,
    load_private_key,
    load_trust,
    new_key_pem,
    open_envelope,
    public_pem,
    sign,
)
from tests.builders import diagonal_onnx, manifest, trust_in

KEY = Ed25519PrivateKey.generate()
TRUST = trust_in(KEY)
MANIFEST = manifest(diagonal_onnx(1.0))
ENVELOPE = sign(MANIFEST, KEY)


def envelope_of(body: bytes, key: Ed25519PrivateKey = KEY, domain: bytes = DOMAIN) -> bytes:
    return MAGIC + key_id(key.public_key()) + key.sign(domain + body) + body


def test_what_was_signed_comes_back() -> None:
    assert open_envelope(ENVELOPE, TRUST) == MANIFEST


def test_another_key_is_not_trusted_though_its_signature_is_right() -> None:
    other = Ed25519PrivateKey.generate()
    with pytest.raises(SignatureError, match="not trusted here"):
        open_envelope(sign(MANIFEST, other), TRUST)


def test_another_key_in_the_name_of_the_trusted_one_is_found_out() -> None:
    forged = sign(MANIFEST, Ed25519PrivateKey.generate())
    start = len(MAGIC)
    in_our_name = forged[:start] + key_id(KEY.public_key()) + forged[start + KEY_ID_BYTES :]
    with pytest.raises(SignatureError, match="wrong signature"):
        open_envelope(in_our_name, TRUST)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param(0, len(MAGIC), id="magic"),
        pytest.param(len(MAGIC), len(MAGIC) + KEY_ID_BYTES, id="key-id"),
        pytest.param(len(MAGIC) + KEY_ID_BYTES, HEADER_BYTES, id="signature"),
        pytest.param(HEADER_BYTES, len(ENVELOPE), id="body"),
    ],
)
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_refused(first: int, last: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(first, last - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(ENVELOPE)
    changed[position] ^= 1 << bit
    with pytest.raises(SignatureError):
        open_envelope(bytes(changed), TRUST)


@given(st.integers(0, len(ENVELOPE) - 1))
def test_a_truncated_envelope_is_refused(kept: int) -> None:
    with pytest.raises(SignatureError):
        open_envelope(ENVELOPE[:kept], TRUST)


@given(st.binary(min_size=1, max_size=40))
def test_an_envelope_with_something_behind_it_is_refused(tail: bytes) -> None:
    with pytest.raises(SignatureError, match="wrong signature"):
        open_envelope(ENVELOPE + tail, TRUST)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(SignatureError):
        open_envelope(payload, TRUST)


def test_what_is_too_large_is_refused_by_its_size_though_it_is_rightly_signed() -> None:
    large = envelope_of(b" " * MAX_MANIFEST_BYTES + msgspec.json.encode(MANIFEST))
    with pytest.raises(SignatureError, match="bytes are no signed manifest"):
        open_envelope(large, TRUST)


@pytest.mark.parametrize("domain", [b"", b"escalon command v1\0", DOMAIN[:-1]])
def test_a_signature_for_another_purpose_is_none_for_a_release(domain: bytes) -> None:
    body = msgspec.json.encode(MANIFEST)
    with pytest.raises(SignatureError, match="wrong signature"):
        open_envelope(envelope_of(body, domain=domain), TRUST)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{}", id="fields-missing"),
        pytest.param(b"not json", id="not-json"),
        pytest.param(b"[" * 50_000, id="nested-without-end"),
        pytest.param(
            msgspec.json.encode(MANIFEST).replace(b"meter-tier1", b"meter-\xff\xfe\xfd\xfc\xfb"),
            id="not-utf8",
        ),
    ],
)
def test_signed_bytes_that_are_no_manifest_are_refused_as_such(body: bytes) -> None:
    with pytest.raises(ManifestError, match="no manifest"):
        open_envelope(envelope_of(body), TRUST)


def test_without_any_trust_nothing_is_accepted() -> None:
    with pytest.raises(SignatureError):
        open_envelope(ENVELOPE, {})


def test_what_contradicts_itself_is_not_signed() -> None:
    with pytest.raises(ManifestError):
        sign(manifest(diagonal_onnx(1.0), seq=0), KEY)


def test_what_no_node_would_read_is_not_signed() -> None:
    labels = tuple(f"label {number:0200}" for number in range(2000))
    wide = manifest(diagonal_onnx(1.0), labels=labels)
    with pytest.raises(ManifestError):
        sign(wide, KEY)


def test_a_key_pair_in_pem_signs_and_verifies() -> None:
    private = new_key_pem()
    trust = load_trust(public_pem(private))
    assert open_envelope(sign(MANIFEST, load_private_key(private)), trust) == MANIFEST


def test_a_trust_file_may_hold_several_keys() -> None:
    one, other = new_key_pem(), new_key_pem()
    trust = load_trust(b"# ours\n" + public_pem(one) + b"\n# the next one\n" + public_pem(other))
    for private in (one, other):
        assert open_envelope(sign(MANIFEST, load_private_key(private)), trust) == MANIFEST


EC_KEY = generate_private_key(SECP256R1())
EC_PUBLIC = EC_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
EC_PRIVATE = EC_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        pytest.param(b"", "holds no public key", id="empty"),
        pytest.param(b"some text", "holds no public key", id="text"),
        pytest.param(new_key_pem(), "holds no public key", id="the-private-key"),
        pytest.param(EC_PUBLIC, "not Ed25519", id="elliptic-curve"),
        pytest.param(
            public_pem(new_key_pem()).replace(b"MCow", b"MC!w"), "broken key", id="broken"
        ),
        pytest.param(public_pem(new_key_pem()) + EC_PUBLIC, "not Ed25519", id="one-of-two"),
    ],
)
def test_a_trust_file_without_a_usable_key_is_refused(pem: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_trust(pem)


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        pytest.param(b"", "no private key", id="empty"),
        pytest.param(public_pem(new_key_pem()), "no private key", id="the-public-key"),
        pytest.param(EC_PRIVATE, "not an Ed25519 key", id="elliptic-curve"),
    ],
)
def test_what_is_no_release_key_is_refused(pem: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_private_key(pem)
