"""Any bytes are a JSON sample, or a refusal that the sender can act on."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from shared.errors import PayloadError
from tests.unit.formats.opened import MAX_BYTES, opened, rows
from tier1.formats import MAX_ID_CHARACTERS, Decoded

JSON = opened({})


def decode(payload: bytes) -> Decoded:
    return JSON.decode(payload)


def refusal(config: dict[str, Any], payload: bytes, shape: tuple[int, ...] = (3,)) -> PayloadError:
    with pytest.raises(PayloadError) as refused:
        opened(config, shape).decode(payload)
    return refused.value


def test_an_object_keeps_the_sensors_id_and_timestamp() -> None:
    sample = decode(b'{"id": "a1", "timestamp": "2026-01-02T03:04:05Z", "features": [1, 2.5, -3]}')
    assert sample.id == "a1"
    assert sample.timestamp == "2026-01-02T03:04:05Z"
    assert sample.ids is None
    assert_array_equal(rows(sample), [[1, 2.5, -3]])


def test_seconds_are_a_timestamp_too() -> None:
    assert decode(b'{"timestamp": 1700000000.25, "features": [1, 2, 3]}').timestamp == 1700000000.25


@pytest.mark.parametrize("payload", [b"[1, 2, 3]", b" \n[1,2,3]", b'{"features": [1, 2, 3]}'])
def test_without_id_and_timestamp_there_are_none(payload: bytes) -> None:
    sample = decode(payload)
    assert sample.id is None
    assert sample.timestamp is None
    assert_array_equal(rows(sample), [[1, 2, 3]])


def test_a_null_stands_for_a_field_that_is_not_there() -> None:
    sample = decode(b'{"id": null, "timestamp": null, "features": [1, 2, 3]}')
    assert sample.id is sample.timestamp is None


def test_a_number_for_an_id_becomes_text() -> None:
    assert decode(b'{"id": 17, "features": [1, 2, 3]}').id == "17"


def test_fields_that_nobody_knows_are_passed_over() -> None:
    payload = b' {"unit": "C", "id": "a", "nested": {"id": 3}, "features": [1, 2, 3]}'
    assert decode(payload).id == "a"


@pytest.mark.parametrize(
    "numbers",
    ["[1, 2, 3, 4, 5, 6]", "[[1, 2, 3], [4, 5, 6]]", " [ [1, 2, 3] , [4, 5, 6] ]"],
    ids=["flat", "nested", "with-blanks"],
)
def test_numbers_are_put_into_the_shape_in_c_order(numbers: str) -> None:
    window = opened({}, (2, 3))
    for payload in (numbers, f'{{"features": {numbers}}}'):
        sample = rows(window.decode(payload.encode()), (2, 3))
        assert_array_equal(sample, [[[1, 2, 3], [4, 5, 6]]])


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(b"", "not_json", id="empty"),
        pytest.param(b"hello", "not_json", id="text"),
        pytest.param(b'{"features": [1, 2, 3]', "not_json", id="cut-off"),
        pytest.param(b'{"features": [1, 2, 3]} x', "not_json", id="more-after-it"),
        pytest.param(b'{"features": [NaN, 2, 3]}', "not_json", id="nan-as-a-word"),
        pytest.param(b'{"id": "\xff", "features": [1, 2, 3]}', "not_json", id="not-utf8"),
        pytest.param(b"[" * 400, "wrong_fields", id="nested"),
        pytest.param(b'{"features": ' + b"[" * 400, "wrong_fields", id="nested-in-an-object"),
        pytest.param(b'{"id": "a"}', "wrong_fields", id="no-features"),
        pytest.param(b"4", "wrong_fields", id="a-number"),
        pytest.param(b"null", "wrong_fields", id="null"),
        pytest.param(b'{"features": {"a": 1}}', "wrong_fields", id="an-object-for-the-numbers"),
        pytest.param(b'{"features": [1, "2", 3]}', "wrong_fields", id="text-among-the-numbers"),
        pytest.param(b'{"features": [1, true, 3]}', "wrong_fields", id="true-among-the-numbers"),
        pytest.param(b"[1, null, 3]", "wrong_fields", id="null-among-the-numbers"),
        pytest.param(
            b'{"id": [1], "features": [1, 2, 3]}', "wrong_fields", id="id-of-a-wrong-type"
        ),
        pytest.param(b'{"id": 1.5, "features": [1, 2, 3]}', "wrong_fields", id="id-with-a-dot"),
        pytest.param(b'{"timestamp": true, "features": [1]}', "wrong_fields", id="bad-timestamp"),
        pytest.param(b'{"id": "", "features": [1, 2, 3]}', "bad_id", id="empty-id"),
        pytest.param(b'{"id": "%s", "features": [1, 2, 3]}' % (b"x" * 129), "bad_id", id="long-id"),
        pytest.param(b'{"id": %s, "features": [1, 2, 3]}' % (b"9" * 129), "bad_id", id="long-int"),
        pytest.param(b"[]", "wrong_length", id="no-numbers"),
        pytest.param(b"[1, 2]", "wrong_length", id="too-few"),
        pytest.param(b"[1, 2, 3, 4]", "wrong_length", id="too-many"),
        pytest.param(b'{"features": [1, 2]}', "wrong_length", id="too-few-in-an-object"),
        pytest.param(b"[1, 2, 1e999]", "wrong_fields", id="beyond-a-double"),
        pytest.param(b"[1, 2, %s]" % (b"1" * 400), "wrong_fields", id="a-long-integer"),
        pytest.param(b"[1, 2, 3]" + b" " * MAX_BYTES, "too_large", id="too-large"),
    ],
)
def test_a_refusal_has_its_reason_and_says_what_was_expected(payload: bytes, reason: str) -> None:
    error = refusal({}, payload)
    assert error.reason == reason
    assert "3 numbers" in error.expected
    assert str(MAX_BYTES) in error.expected


def test_a_word_that_json_does_not_have_is_named() -> None:
    assert "JSON has no NaN" in str(refusal({}, b"[1, NaN, 3]"))
    assert "JSON has no NaN" in str(refusal({}, b'{"features": [1, -Infinity, 3]}'))


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b'{"features": [1, 2]}', "2 numbers in features, not 3"),
        (b'{"features": [1, "x", 2]}', r"got `str` - at `\$\.features\[1\]`"),
        (b"", "the message is empty"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_where(payload: bytes, text: str) -> None:
    with pytest.raises(PayloadError, match=text):
        decode(payload)


@pytest.mark.parametrize(
    ("payload", "reason", "text"),
    [
        ("[[1, 2, 3], [4, 5]]", "wrong_fields", r"length >= 3 - at `\$.features\[1\]`"),
        ("[[1, 2, 3]]", "wrong_fields", "length >= 2"),
        ("[[[1, 2, 3], [4, 5, 6]]]", "wrong_fields", "nested 3 deep, not 2 or 1"),
        ("[1, 2, 3, 4, 5]", "wrong_length", "5 numbers in features, not 6"),
        ("[[1, 2, 3], [4, 5, null]]", "wrong_fields", r"`\$.features\[1\]\[2\]`"),
        ("[]", "wrong_length", "0 numbers"),
        ('"text"', "wrong_fields", "nested 0 deep"),
    ],
)
def test_a_nested_list_must_have_the_shape(payload: str, reason: str, text: str) -> None:
    with pytest.raises(PayloadError, match=text) as refused:
        opened({}, (2, 3)).decode(b'{"features": %s}' % payload.encode())
    assert refused.value.reason == reason


def test_a_number_beyond_float32_is_left_to_the_batch() -> None:
    assert decode(b"[1, 2, 1e39]").rows == [1, 2, 1e39]


# Bytes


def test_bytes_come_as_whole_numbers() -> None:
    image = opened({}, (2, 2), "uint8")
    for payload in (b"[0, 255, 7, 1]", b"[[0, 255], [7, 1]]"):
        assert_array_equal(rows(image.decode(payload), (2, 2), "uint8"), [[[0, 255], [7, 1]]])


@pytest.mark.parametrize("number", ["256", "-1", "1.5", "1.0", "1e2", '"1"', "null", "1" * 40])
def test_a_number_that_is_no_byte_is_refused_with_its_place(number: str) -> None:
    with pytest.raises(PayloadError, match=r"`\$\.features\[1\]`") as refused:
        opened({}, (2,), "uint8").decode(b'{"features": [7, %s]}' % number.encode())
    assert refused.value.reason == "wrong_fields"
    assert "whole numbers 0 to 255" in refused.value.expected


# Paths


def test_fields_are_read_where_the_paths_lead() -> None:
    config = {"id": "meta.seq", "timestamp": "meta.at", "features": "data.values"}
    payload = b'{"data": {"values": [1, 2, 3], "n": 3}, "meta": {"seq": 8, "at": 5, "by": "x"}}'
    sample = opened(config).decode(payload)
    assert (sample.id, sample.timestamp) == ("8", 5.0)
    assert_array_equal(rows(sample), [[1, 2, 3]])


def test_single_numbers_are_read_by_name_in_the_order_of_the_paths() -> None:
    config = {"features": ["motor.rpm", "temp", "motor.current"]}
    payload = b'{"temp": 20.5, "motor": {"current": 3, "rpm": 1500}, "id": "a"}'
    sample = opened(config).decode(payload)
    assert sample.id == "a"
    assert_array_equal(rows(sample), [[1500, 20.5, 3]])


def test_names_may_have_any_characters_but_quotes() -> None:
    config = {"features": ["Temp \u00b0C", "a b.\u6e29\u5ea6", "$x"]}
    payload = json.dumps({"Temp \u00b0C": 1, "a b": {"\u6e29\u5ea6": 2}, "$x": 3}).encode()
    assert_array_equal(rows(opened(config).decode(payload)), [[1, 2, 3]])


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b'{"temp": 1, "motor": {}}', r"missing required field `rpm` - at `\$\.motor`"),
        (b'{"temp": 1}', "missing required field `motor`"),
        (b'{"temp": "warm", "motor": {"rpm": 1}}', r"`\$\.temp`"),
        (b'{"temp": 1, "motor": 2}', "Expected `object`"),
        (b"[1, 2]", "Expected `object`, got `array`"),
    ],
)
def test_a_name_that_is_missing_or_no_number_is_told(payload: bytes, text: str) -> None:
    with pytest.raises(PayloadError, match=text):
        opened({"features": ["temp", "motor.rpm"]}, (2,)).decode(payload)


@pytest.mark.parametrize("key", ["id", "timestamp"])
def test_a_path_that_is_written_down_must_lead_somewhere(key: str) -> None:
    config = {key: key}
    assert "missing" in str(refusal(config, b'{"features": [1, 2, 3]}'))
    assert "got `null`" in str(refusal(config, b'{"%s": null, "features": [1]}' % key.encode()))
    assert "got `array`" in str(refusal(config, b"[1, 2, 3]"))
    assert opened(config).decode(b'{"%s": "x", "features": [1, 2, 3]}' % key.encode())


def test_a_field_that_is_no_id_of_the_sample_is_left_alone() -> None:
    config = {"id": None, "timestamp": None}
    payload = b'{"id": {"serial": 3}, "timestamp": [], "features": [1, 2, 3]}'
    sample = opened(config).decode(payload)
    assert sample.id is sample.timestamp is None
    assert opened(config).sender_id(payload) is None


def test_many_single_numbers_are_not_all_told_to_a_sender() -> None:
    config = {"features": [f"channel-{index}" for index in range(100)]}
    expected = opened(config, (100,)).expected
    assert '"channel-7": number' in expected
    assert "channel-8" not in expected
    assert "92 more" in expected


# Properties

NUMBER = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=MAX_ID_CHARACTERS),
    st.lists(st.floats(-1e30, 1e30), min_size=6, max_size=6),
    st.booleans(),
)
def test_a_sound_sample_always_passes_as_it_was(
    identity: str, numbers: list[float], nested: bool
) -> None:
    features = [numbers[:3], numbers[3:]] if nested else numbers
    payload = json.dumps({"id": identity, "features": features}).encode()
    window = opened({}, (2, 3))
    sample = window.decode(payload)
    assert sample.id == identity
    assert_array_equal(rows(sample, (2, 3)), np.array(numbers, np.float32).reshape(1, 2, 3))
    assert window.sender_id(payload) == identity


# The id in a refused sample


def test_the_id_in_a_refused_sample_is_found_for_its_sender() -> None:
    assert JSON.sender_id(b'{"id": "a1", "features": "nonsense"}') == "a1"
    assert JSON.sender_id(b'{"id": 5}') == "5"
    assert JSON.sender_id(b'{"features": [1, NaN], "id" : "a1"}') == "a1"
    nested = opened({"id": "meta.seq"})
    assert nested.sender_id(b'{"meta": {"seq": "b2"}}') == "b2"
    assert nested.sender_id(b'{"meta": {"seq": "b2"}, "features": [NaN]}') == "b2"


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"[1, 2]", b"{", b'{"id": null}', b'{"id": [1]}', b'{"name": "a"}', b'{"id": "\xff"}',
        b'{"id": ""}',
    ],
)  # fmt: skip
def test_where_no_id_can_be_read_there_is_none(payload: bytes) -> None:
    assert JSON.sender_id(payload) is None


def test_no_id_is_looked_for_in_what_is_too_large() -> None:
    payload = b'{"id": "a1"}'
    assert opened({}, max_payload_bytes=len(payload)).sender_id(payload) == "a1"
    assert opened({}, max_payload_bytes=len(payload) - 1).sender_id(payload) is None


def test_an_id_that_is_too_long_is_told_cut() -> None:
    assert JSON.sender_id(b'{"id": "%s"}' % (b"x" * 200)) == "x" * MAX_ID_CHARACTERS


def test_the_size_of_a_shape_is_what_is_expected() -> None:
    shape = (2, 5, 7)
    assert f"{math.prod(shape)} numbers, flat or nested as 2x5x7" in opened({}, shape).expected
