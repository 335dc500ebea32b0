"""Bare numbers: their count is the only thing that can be wrong with them."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from shared.errors import PayloadError
from tests.unit.formats.opened import MAX_BYTES, opened, rows
from tier1.formats import FormatConfigError
from tier1.formats.config import WireDtype

RAW = opened({"kind": "raw"}, (2, 3))


@pytest.mark.parametrize("dtype", get_args(WireDtype))
def test_numbers_of_every_type_pass_little_endian(dtype: str) -> None:
    numbers = np.array([[1, 2, 3], [4, 5, 60]], np.dtype(dtype).newbyteorder("<"))
    decoded = opened({"kind": "raw", "dtype": dtype}, (2, 3)).decode(numbers.tobytes())
    assert_array_equal(rows(decoded, (2, 3)), [numbers])
    assert (decoded.id, decoded.timestamp, decoded.ids) == (None, None, None)


def test_the_inputs_own_type_is_the_default() -> None:
    assert_array_equal(rows(RAW.decode(bytes(24)), (2, 3)), np.zeros((1, 2, 3)))
    image = opened({"kind": "raw"}, (2, 3), "uint8")
    assert_array_equal(
        rows(image.decode(b"abcdef"), (2, 3), "uint8"), [[[97, 98, 99], [100, 101, 102]]]
    )


def test_float32_is_not_copied() -> None:
    payload = np.arange(6, dtype="<f4").tobytes()
    decoded = RAW.decode(payload)
    assert isinstance(decoded.rows, np.ndarray)
    assert np.shares_memory(decoded.rows, np.frombuffer(payload, "<f4"))


@given(st.binary(max_size=40))
def test_the_length_alone_decides(payload: bytes) -> None:
    if len(payload) == 24:
        assert_array_equal(rows(RAW.decode(payload), (2, 3)).tobytes(), payload)
        return
    with pytest.raises(PayloadError) as refused:
        RAW.decode(payload)
    assert refused.value.reason == "wrong_length"
    assert "6 little-endian float32 numbers (24 bytes)" in refused.value.expected


def test_too_large_is_refused_unread() -> None:
    with pytest.raises(PayloadError) as refused:
        RAW.decode(bytes(MAX_BYTES + 1))
    assert refused.value.reason == "too_large"


def test_doubles_beyond_float32_are_left_to_the_batch() -> None:
    format_ = opened({"kind": "raw", "dtype": "float64"}, (2,))
    assert_array_equal(rows(format_.decode(np.array([1e300, 1.0]).tobytes()), (2,)), [[np.inf, 1]])


@pytest.mark.parametrize("kind", ["raw", "msgpack", "cbor"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_floating_type_for_bytes_is_refused_at_start(kind: str, dtype: str) -> None:
    config: dict[str, Any] = {"kind": kind, "dtype": dtype}
    with pytest.raises(FormatConfigError, match=dtype) as refused:
        opened(config, dtype="uint8")
    assert "uint8" in refused.value.fix


def test_wider_whole_numbers_stand_for_bytes_where_they_are() -> None:
    image = opened({"kind": "raw", "dtype": "int16"}, dtype="uint8")
    sound = np.array([0, 7, 255], "<i2").tobytes()
    assert_array_equal(rows(image.decode(sound), dtype="uint8"), [[0, 7, 255]])
    with pytest.raises(PayloadError, match=r"features\[1\]"):
        image.decode(np.array([0, -7, 255], "<i2").tobytes())


def test_the_refusal_of_a_pack_says_how_long_it_may_be() -> None:
    format_ = opened({"kind": "raw", "pack": {"max_samples": 4}})
    with pytest.raises(PayloadError, match="20 bytes, not 1 to 4 times 12"):
        format_.decode(bytes(20))
