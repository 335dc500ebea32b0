"""Any bytes are a sample or a refusal that the sender can act on."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from shared.errors import PayloadError
from tier1.samples import MAX_ID_CHARACTERS, DecodedSample, SampleDecoder, sender_id

NOW = 1_700_000_000.5
MAX_BYTES = 500
DECODER = SampleDecoder((3,), MAX_BYTES)
REASONS = {"too_large", "not_json", "wrong_fields", "bad_id", "wrong_length", "not_finite"}


def decode(payload: bytes) -> DecodedSample:
    return DECODER.decode(payload, NOW)


def test_an_object_keeps_the_sensors_id_and_timestamp() -> None:
    sample = decode(b'{"id": "a1", "timestamp": "2026-01-02T03:04:05Z", "features": [1, 2.5, -3]}')
    assert sample.id == "a1"
    assert sample.timestamp == "2026-01-02T03:04:05Z"
    assert_array_equal(sample.features, np.array([1, 2.5, -3], np.float32))
    assert sample.features.dtype == np.float32


@pytest.mark.parametrize("payload", [b"[1, 2, 3]", b" \n[1,2,3]", b'{"features": [1, 2, 3]}'])
def test_without_an_id_one_is_made_and_the_time_of_receipt_stands(payload: bytes) -> None:
    one, other = decode(payload), decode(payload)
    assert one.id
    assert one.id != other.id
    assert one.timestamp == NOW


def test_a_number_for_an_id_becomes_text() -> None:
    assert decode(b'{"id": 17, "features": [1, 2, 3]}').id == "17"


def test_fields_that_nobody_knows_are_passed_over() -> None:
    assert decode(b'{"id": "a", "unit": "C", "features": [1, 2, 3]}').id == "a"


def test_numbers_are_put_into_the_shape_in_c_order() -> None:
    sample = SampleDecoder((2, 3), MAX_BYTES).decode(b"[1, 2, 3, 4, 5, 6]", NOW)
    assert_array_equal(sample.features, np.array([[1, 2, 3], [4, 5, 6]], np.float32))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(b"", "not_json", id="empty"),
        pytest.param(b"hello", "not_json", id="text"),
        pytest.param(b'{"features": [1, 2, 3]', "not_json", id="cut-off"),
        pytest.param(b'{"features": [NaN, 2, 3]}', "not_json", id="nan-as-a-word"),
        pytest.param(b'{"id": "\xff", "features": [1, 2, 3]}', "not_json", id="not-utf8"),
        pytest.param(b"[" * 400, "wrong_fields", id="nested"),
        pytest.param(b'{"id": "a"}', "wrong_fields", id="no-features"),
        pytest.param(b"4", "wrong_fields", id="a-number"),
        pytest.param(b"null", "wrong_fields", id="null"),
        pytest.param(b'{"features": [1, "2", 3]}', "wrong_fields", id="text-among-the-numbers"),
        pytest.param(b"[1, null, 3]", "wrong_fields", id="null-among-the-numbers"),
        pytest.param(
            b'{"id": [1], "features": [1, 2, 3]}', "wrong_fields", id="id-of-a-wrong-type"
        ),
        pytest.param(b'{"timestamp": true, "features": [1]}', "wrong_fields", id="bad-timestamp"),
        pytest.param(b'{"id": "", "features": [1, 2, 3]}', "bad_id", id="empty-id"),
        pytest.param(b'{"id": "%s", "features": [1, 2, 3]}' % (b"x" * 129), "bad_id", id="long-id"),
        pytest.param(b"[]", "wrong_length", id="no-numbers"),
        pytest.param(b"[1, 2]", "wrong_length", id="too-few"),
        pytest.param(b"[1, 2, 3, 4]", "wrong_length", id="too-many"),
        pytest.param(b"[1, 2, 1e39]", "not_finite", id="beyond-float32"),
        pytest.param(b"[1, 2, %s]" % (b"1" * 60), "not_finite", id="a-long-integer"),
        pytest.param(b"[1, 2, 3]" + b" " * MAX_BYTES, "too_large", id="too-large"),
    ],
)
def test_a_refusal_has_its_reason_and_says_what_was_expected(payload: bytes, reason: str) -> None:
    with pytest.raises(PayloadError) as refusal:
        decode(payload)
    assert refusal.value.reason == reason
    assert "3 numbers" in refusal.value.expected
    assert str(MAX_BYTES) in refusal.value.expected


def test_the_refusal_of_a_number_says_which_one() -> None:
    with pytest.raises(PayloadError, match=r"features\[1\]"):
        decode(b"[1, -1e300, 3]")


def check(payload: bytes) -> None:
    try:
        sample = decode(payload)
    except PayloadError as error:
        assert error.reason in REASONS
    else:
        assert sample.features.shape == (3,)
        assert np.isfinite(sample.features).all()
        assert 0 < len(sample.id) <= MAX_ID_CHARACTERS
    identity = sender_id(payload, MAX_BYTES)
    assert identity is None or len(identity) <= MAX_ID_CHARACTERS


@given(st.binary(max_size=MAX_BYTES + 10))
@example(b'{"id": "\xed\xa0\x80"}')
@example(b'{"\xff": 1}')
@example(b'{"id": 1e999}')
@example(b"{" * 499)
def test_any_bytes_are_a_sample_or_a_payload_error(payload: bytes) -> None:
    check(payload)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
NUMBER = st.floats(allow_nan=False, allow_infinity=False) | st.integers()


@given(
    st.fixed_dictionaries(
        {"features": st.lists(NUMBER, min_size=2, max_size=4) | JSON},
        optional={"id": st.text(max_size=140) | JSON, "timestamp": NUMBER | JSON},
    )
    | JSON
)
def test_any_json_is_a_sample_or_a_payload_error(value: object) -> None:
    check(json.dumps(value).encode())


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=MAX_ID_CHARACTERS),
    st.lists(st.floats(-1e30, 1e30), min_size=3, max_size=3),
)
def test_a_sound_sample_always_passes_as_it_was(identity: str, numbers: list[float]) -> None:
    payload = json.dumps({"id": identity, "features": numbers}).encode()
    sample = SampleDecoder((3,), 10_000).decode(payload, NOW)
    assert sample.id == identity
    assert_array_equal(sample.features, np.array(numbers, np.float32))
    assert sender_id(payload, 10_000) == identity


def test_the_id_in_a_refused_sample_is_found_for_its_sender() -> None:
    assert sender_id(b'{"id": "a1", "features": "nonsense"}', MAX_BYTES) == "a1"
    assert sender_id(b'{"id": 5}', MAX_BYTES) == "5"


@pytest.mark.parametrize(
    "payload",
    [b"", b"[1, 2]", b"{", b'{"id": null}', b'{"id": [1]}', b'{"name": "a"}', b'{"id": "\xff"}'],
)
def test_where_no_id_can_be_read_there_is_none(payload: bytes) -> None:
    assert sender_id(payload, MAX_BYTES) is None


def test_no_id_is_looked_for_in_what_is_too_large() -> None:
    payload = b'{"id": "a1"}'
    assert sender_id(payload, len(payload)) == "a1"
    assert sender_id(payload, len(payload) - 1) is None


def test_the_size_of_a_shape_is_what_is_expected() -> None:
    shape = (2, 5, 7)
    assert f"{math.prod(shape)} numbers" in SampleDecoder(shape, 10).expected
