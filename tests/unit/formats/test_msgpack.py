"""MessagePack: as JSON, and the numbers as bytes where the sender likes."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from shared.errors import PayloadError
from tests.unit.formats.opened import MAX_BYTES, opened, rows

MSGPACK = opened({"kind": "msgpack"})
encode = msgspec.msgpack.encode


@pytest.mark.parametrize(
    "features", [[1, 2, 3], [1.0, 2.0, 3.0], np.array([1, 2, 3], "<f4").tobytes()],
    ids=["integers", "floats", "bytes"],
)  # fmt: skip
def test_a_map_or_the_bare_numbers_are_a_sample(features: Any) -> None:
    sample = MSGPACK.decode(
        encode({"id": "a", "timestamp": 5, "more": {1: 2}, "features": features})
    )
    assert (sample.id, sample.timestamp) == ("a", 5.0)
    assert_array_equal(rows(sample), [[1, 2, 3]])
    assert_array_equal(rows(MSGPACK.decode(encode(features))), [[1, 2, 3]])


@given(st.lists(st.floats(width=32), min_size=40, max_size=40))
def test_numbers_pass_as_they_were_in_every_way_to_write_them(numbers: list[float]) -> None:
    window = opened({"kind": "msgpack"}, (2, 20))
    array = np.array(numbers, np.float32).reshape(2, 20)
    for features in (numbers, array.tolist(), array.tobytes()):
        payload = encode({"features": features})
        assert_array_equal(rows(window.decode(payload), (2, 20))[0], array)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int16", "uint32", "int64"])
def test_bytes_hold_the_type_that_is_configured(dtype: str) -> None:
    format_ = opened({"kind": "msgpack", "dtype": dtype})
    features = np.array([1, 2, 300], np.dtype(dtype).newbyteorder("<")).tobytes()
    assert_array_equal(rows(format_.decode(encode({"features": features}))), [[1, 2, 300]])


def test_whole_numbers_stand_for_bytes_where_they_are() -> None:
    format_ = opened({"kind": "msgpack", "dtype": "int16"}, dtype="uint8")
    sound, odd = (np.array([1, 2, last], "<i2").tobytes() for last in (255, 256))
    assert_array_equal(rows(format_.decode(encode(sound)), dtype="uint8"), [[1, 2, 255]])
    with pytest.raises(PayloadError, match=r"features\[2\] is not 0 to 255") as refused:
        format_.decode(encode(odd))
    assert refused.value.reason == "out_of_range"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(b"", "not_msgpack", id="empty"),
        pytest.param(b"\xc1", "not_msgpack", id="a-code-that-is-none"),
        pytest.param(encode({"features": [1, 2, 3]})[:-1], "not_msgpack", id="cut-off"),
        pytest.param(encode([1, 2, 3]) + b"\0", "not_msgpack", id="more-after-it"),
        pytest.param(b"\xdd\xff\xff\xff\xff\x01", "not_msgpack", id="a-huge-array"),
        pytest.param(b"\xdf\xff\xff\xff\xff\xa1a", "not_msgpack", id="a-huge-map"),
        pytest.param(b"\xc6\xff\xff\xff\xff\x01", "not_msgpack", id="huge-bytes"),
        pytest.param(b"\x91" * 2000 + b"\x01", "not_msgpack", id="nested"),
        pytest.param(encode([[[1, 2, 3]]]), "wrong_fields", id="nested-too-deep"),
        pytest.param(encode(5), "wrong_fields", id="a-number"),
        pytest.param(encode(None), "wrong_fields", id="nothing"),
        pytest.param(encode({"id": "a"}), "wrong_fields", id="no-features"),
        pytest.param(encode({"features": {"a": 1}}), "wrong_fields", id="a-map-for-the-numbers"),
        pytest.param(encode({"features": [1, "2", 3]}), "wrong_fields", id="text"),
        pytest.param(encode({"features": [1, b"2", 3]}), "wrong_fields", id="bytes-between"),
        pytest.param(encode({"features": [[b"2"]]}), "wrong_fields", id="bytes-deep"),
        pytest.param(encode({"features": [bytes(12)]}), "wrong_fields", id="a-list-of-bytes"),
        pytest.param(encode({"features": [1, True, 3]}), "wrong_fields", id="true"),
        pytest.param(encode({"features": [1, 2]}), "wrong_length", id="too-few"),
        pytest.param(encode({"features": bytes(11)}), "wrong_length", id="half-a-number"),
        pytest.param(encode({"features": bytes(16)}), "wrong_length", id="too-many-bytes"),
        pytest.param(encode({"id": b"a", "features": [1, 2, 3]}), "wrong_fields", id="id-in-bytes"),
        pytest.param(
            encode({"timestamp": float("nan"), "features": [1, 2, 3]}), "not_finite", id="nan-time"
        ),
        pytest.param(encode(bytes(MAX_BYTES)), "too_large", id="too-large"),
    ],
)
def test_a_refusal_has_its_reason_and_says_what_was_expected(payload: bytes, reason: str) -> None:
    with pytest.raises(PayloadError) as refused:
        MSGPACK.decode(payload)
    assert refused.value.reason == reason
    assert "3 numbers" in refused.value.expected
    assert "little-endian float32 bytes" in refused.value.expected


def test_the_id_in_a_refused_sample_is_found_for_its_sender() -> None:
    assert MSGPACK.sender_id(encode({"features": "nonsense", "id": 5})) == "5"
    for payload in (b"", b"\xc1", encode([1]), encode({"id": None}), encode({"id": [1]})):
        assert MSGPACK.sender_id(payload) is None
    assert opened({"kind": "msgpack", "id": None}).sender_id(encode({"id": 5})) is None
