"""Nothing is parsed that trusted keys did not sign, and nothing signed can be changed."""

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
from shared.releases.envelope import (
    ENTRY_BYTES,
    MAGIC,
    MAX_SIGNATURES,
    Role,
    body_of,
    seal,
)
from shared.releases.keys import KEY_ID_BYTES, key_id, load_private_key, new_key_pem, public_hex
from shared.releases.manifest import (
    DOMAIN,
    MAX_MANIFEST_BYTES,
    open_manifest,
    read_manifest,
    sign_manifest,
)
from tests.builders import diagonal_onnx, manifest, trust_in

KEY, OTHER, THIRD = (Ed25519PrivateKey.generate() for _ in range(3))
RELEASES = trust_in(KEY).releases
TWO_OF_THREE = Role(keys=tuple(map(public_hex, (KEY, OTHER, THIRD))), threshold=2)
MANIFEST = manifest(diagonal_onnx(1.0))
ENVELOPE = sign_manifest(MANIFEST, [KEY])
HEADER_BYTES = len(MAGIC) + 1 + ENTRY_BYTES
IN_OUR_NAME = slice(len(MAGIC) + 1, len(MAGIC) + 1 + KEY_ID_BYTES)


def test_what_was_signed_comes_back() -> None:
    assert open_manifest(ENVELOPE, RELEASES) == MANIFEST
    assert read_manifest(ENVELOPE) == MANIFEST


def test_another_key_is_not_trusted_though_its_signature_is_right() -> None:
    with pytest.raises(SignatureError, match="not trusted here"):
        open_manifest(sign_manifest(MANIFEST, [OTHER]), RELEASES)


def test_another_key_in_the_name_of_the_trusted_one_is_found_out() -> None:
    forged = bytearray(sign_manifest(MANIFEST, [OTHER]))
    forged[IN_OUR_NAME] = key_id(KEY.public_key())
    with pytest.raises(SignatureError, match="wrong signature"):
        open_manifest(bytes(forged), RELEASES)


# How many must sign


@pytest.mark.parametrize("signers", [[KEY, OTHER], [THIRD, KEY], [KEY, OTHER, THIRD]])
def test_as_many_keys_as_it_takes_are_enough_whichever_they_are(
    signers: list[Ed25519PrivateKey],
) -> None:
    assert open_manifest(sign_manifest(MANIFEST, signers), TWO_OF_THREE) == MANIFEST


def test_one_key_too_few_is_too_few() -> None:
    with pytest.raises(SignatureError, match="signed by 1 of the 2 keys that it takes"):
        open_manifest(ENVELOPE, TWO_OF_THREE)


def test_one_key_that_signs_twice_counts_once() -> None:
    with pytest.raises(SignatureError, match="signed by 1 of the 2 keys that it takes"):
        open_manifest(sign_manifest(MANIFEST, [KEY, KEY]), TWO_OF_THREE)


def test_a_strangers_signature_beside_enough_good_ones_does_no_harm() -> None:
    stranger = Ed25519PrivateKey.generate()
    envelope = sign_manifest(MANIFEST, [stranger, KEY, OTHER])
    assert open_manifest(envelope, TWO_OF_THREE) == MANIFEST


def test_a_strangers_signature_does_not_make_up_for_a_missing_one() -> None:
    envelope = sign_manifest(MANIFEST, [KEY, Ed25519PrivateKey.generate()])
    with pytest.raises(SignatureError, match=r"1 of the 2 .* not trusted here"):
        open_manifest(envelope, TWO_OF_THREE)


def test_a_key_that_was_taken_out_counts_no_more() -> None:
    without = Role(keys=(public_hex(KEY),), threshold=1)
    with pytest.raises(SignatureError, match="signed by 0 of the 1"):
        open_manifest(sign_manifest(MANIFEST, [OTHER]), without)


# Changed bytes


@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param(0, len(MAGIC), id="magic"),
        pytest.param(len(MAGIC), len(MAGIC) + 1, id="count"),
        pytest.param(IN_OUR_NAME.start, IN_OUR_NAME.stop, id="key-id"),
        pytest.param(IN_OUR_NAME.stop, HEADER_BYTES, id="signature"),
        pytest.param(HEADER_BYTES, len(ENVELOPE), id="body"),
    ],
)
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_refused(first: int, last: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(first, last - 1))
    changed = bytearray(ENVELOPE)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SignatureError):
        open_manifest(bytes(changed), RELEASES)


@given(st.integers(0, len(ENVELOPE) - 1))
def test_a_truncated_envelope_is_refused(kept: int) -> None:
    with pytest.raises(SignatureError):
        open_manifest(ENVELOPE[:kept], RELEASES)


@given(st.binary(min_size=1, max_size=40))
def test_an_envelope_with_something_behind_it_is_refused(tail: bytes) -> None:
    with pytest.raises(SignatureError, match="wrong signature"):
        open_manifest(ENVELOPE + tail, RELEASES)


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(MAGIC.__add__)))
def test_any_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(SignatureError):
        open_manifest(payload, RELEASES)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(b"", "not signed", id="nothing"),
        pytest.param(msgspec.json.encode(MANIFEST), "not signed", id="the-manifest-alone"),
        pytest.param(MAGIC + b"\0" + body_of(ENVELOPE), "not signed", id="no-signature"),
        pytest.param(
            MAGIC + bytes([MAX_SIGNATURES + 1]) + bytes(ENTRY_BYTES * (MAX_SIGNATURES + 1) + 9),
            "not signed",
            id="too-many-signatures",
        ),
    ],
)
def test_a_missing_signature_fails_closed(payload: bytes, reason: str) -> None:
    with pytest.raises(SignatureError, match=reason):
        open_manifest(payload, RELEASES)


def test_what_is_too_large_is_refused_by_its_size_though_it_is_rightly_signed() -> None:
    large = seal(DOMAIN, b" " * MAX_MANIFEST_BYTES + msgspec.json.encode(MANIFEST), [KEY])
    with pytest.raises(SignatureError, match="bytes are more than"):
        open_manifest(large, RELEASES)


@pytest.mark.parametrize("domain", [b"", b"escalon command v1\0", DOMAIN[:-1]])
def test_a_signature_for_another_purpose_is_none_for_a_release(domain: bytes) -> None:
    with pytest.raises(SignatureError, match="wrong signature"):
        open_manifest(seal(domain, msgspec.json.encode(MANIFEST), [KEY]), RELEASES)


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
        open_manifest(seal(DOMAIN, body, [KEY]), RELEASES)


# Signing


def test_what_contradicts_itself_is_not_signed() -> None:
    with pytest.raises(ManifestError):
        sign_manifest(manifest(diagonal_onnx(1.0), seq=0), [KEY])


def test_what_no_node_would_read_is_not_signed() -> None:
    labels = tuple(f"label {number:0200}" for number in range(2000))
    with pytest.raises(ManifestError):
        sign_manifest(manifest(diagonal_onnx(1.0), labels=labels), [KEY])


def test_a_key_in_pem_signs() -> None:
    key = load_private_key(new_key_pem())
    assert open_manifest(sign_manifest(MANIFEST, [key]), trust_in(key).releases) == MANIFEST


EC_KEY = generate_private_key(SECP256R1())
EC_PRIVATE = EC_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        pytest.param(b"", "no private key", id="empty"),
        pytest.param(PUBLIC, "no private key", id="the-public-key"),
        pytest.param(EC_PRIVATE, "not an Ed25519 key", id="elliptic-curve"),
    ],
)
def test_what_is_no_release_key_is_refused(pem: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_private_key(pem)
