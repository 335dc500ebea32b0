"""CBOR from anybody: plain data and numbers, and nothing else that the library could decode."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from shared.errors import PayloadError
from shared.inputs import InputDtype
from tests.unit.formats.opened import MAX_BYTES, opened, rows
from tier1.formats import FormatConfigError
from tier1.formats.cbor_reader import CborReader

ROOT = Path(__file__).parents[3]
CBOR = opened({"kind": "cbor"})
TYPED_ARRAYS = {
    64: "u1", 65: ">u2", 66: ">u4", 67: ">u8", 68: "u1", 69: "<u2", 70: "<u4", 71: "<u8",
    72: "i1", 73: ">i2", 74: ">i4", 75: ">i8", 77: "<i2", 78: "<i4", 79: "<i8",
    80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8",
}  # fmt: skip


def tagged(tag: int, value: Any) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(tag, value))


@pytest.mark.parametrize(
    "features",
    [
        [1, 2, 3],
        [1.0, 2.0, 3.0],
        np.array([1, 2, 3], "<f4").tobytes(),
        cbor2.CBORTag(85, np.array([1, 2, 3], "<f4").tobytes()),
        cbor2.CBORTag(40, [[3], cbor2.CBORTag(64, bytes([1, 2, 3]))]),
    ],
    ids=["integers", "floats", "bytes", "typed-array", "shaped-array"],
)
def test_a_map_or_the_bare_numbers_are_a_sample(features: Any) -> None:
    message = {"id": "a", "timestamp": 5, "more": {1: [2]}, "features": features}
    sample = CBOR.decode(cbor2.dumps(message))
    assert (sample.id, sample.timestamp) == ("a", 5.0)
    assert_array_equal(rows(sample), [[1, 2, 3]])
    if not isinstance(features, cbor2.CBORTag) or features.tag == 85:
        assert_array_equal(rows(CBOR.decode(cbor2.dumps(features))), [[1, 2, 3]])


@given(st.lists(st.floats(width=32), min_size=40, max_size=40))
def test_numbers_pass_as_they_were_in_every_way_to_write_them(numbers: list[float]) -> None:
    window = opened({"kind": "cbor"}, (2, 20))
    array = np.array(numbers, np.float32).reshape(2, 20)
    blob = array.tobytes()
    for features in (
        numbers,
        array.tolist(),
        blob,
        cbor2.CBORTag(85, blob),
        cbor2.CBORTag(81, array.astype(">f4").tobytes()),
        cbor2.CBORTag(40, [[2, 20], cbor2.CBORTag(85, blob)]),
        cbor2.CBORTag(1040, [[2, 20], cbor2.CBORTag(85, array.tobytes(order="F"))]),
    ):
        payload = cbor2.dumps({"features": features})
        assert_array_equal(rows(window.decode(payload), (2, 20))[0], array)


@pytest.mark.parametrize("tag", TYPED_ARRAYS)
def test_a_typed_array_is_of_the_type_that_its_tag_says(tag: int) -> None:
    payload = tagged(tag, np.array([1, 2, 30], TYPED_ARRAYS[tag]).tobytes())
    assert_array_equal(rows(CBOR.decode(payload)), [[1, 2, 30]])


@pytest.mark.parametrize("tag", [64, 69, 72, 77])
def test_a_typed_array_of_whole_numbers_stands_for_bytes(tag: int) -> None:
    image = opened({"kind": "cbor"}, dtype="uint8")
    payload = tagged(tag, np.array([1, 2, 30], TYPED_ARRAYS[tag]).tobytes())
    assert_array_equal(rows(image.decode(payload), dtype="uint8"), [[1, 2, 30]])


def test_floats_do_not_stand_for_bytes() -> None:
    with pytest.raises(PayloadError) as refused:
        opened({"kind": "cbor"}, dtype="uint8").decode(tagged(85, bytes(12)))
    assert refused.value.reason == "wrong_dtype"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (cbor2.CBORTag(0, "2026-01-02T03:04:05Z"), "2026-01-02T03:04:05Z"),
        (cbor2.CBORTag(1, 1_700_000_000), 1_700_000_000.0),
        (cbor2.CBORTag(4, [-1, 17_000_000_005]), 1_700_000_000.5),
    ],
    ids=["text", "seconds", "decimal-fraction"],
)
def test_a_timestamp_may_carry_its_tag(written: Any, read: Any) -> None:
    sample = CBOR.decode(cbor2.dumps({"timestamp": written, "features": [1, 2, 3]}))
    assert sample.timestamp == read


def test_a_message_may_say_that_it_is_cbor() -> None:
    assert_array_equal(rows(CBOR.decode(tagged(55799, [1, 2, 3]))), [[1, 2, 3]])


@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_single_numbers_are_read_by_name(kind: InputDtype) -> None:
    format_ = opened({"kind": "cbor", "features": ["b.c", "a"]}, (2,), kind)
    decoded = format_.decode(cbor2.dumps({"a": 1, "b": {"c": 2}}))
    assert_array_equal(rows(decoded, (2,), kind), [[2, 1]])


TAGS = sorted({*range(0, 300), 1004, 1040, 43000, 55799, 2**16, 2**32, 2**64 - 1})
PLAIN_TAGS = {0, 1, 4, 40, 1040, 55799, *TYPED_ARRAYS}


@pytest.mark.parametrize("value", [0, b"\x01", "(a+)+$", [1, 2], {"a": 1}], ids=str)
def test_no_tag_but_those_of_plain_data_is_decoded(value: Any) -> None:
    reader = CborReader()
    for tag in TAGS:
        if tag not in PLAIN_TAGS:
            payload = cbor2.dumps([value])
            payload = payload[:1] + tagged(tag, 0)[:-1] + payload[1:]
            with pytest.raises(PayloadError, match=f"tag {tag} is not plain data"):
                reader.read(payload)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(b"", "not_cbor", id="empty"),
        pytest.param(b"\xff", "not_cbor", id="a-break"),
        pytest.param(b"\x1c", "not_cbor", id="a-length-that-is-none"),
        pytest.param(cbor2.dumps([1, 2, 3])[:-1], "not_cbor", id="cut-off"),
        pytest.param(cbor2.dumps([1, 2, 3]) + b"\0", "not_cbor", id="more-after-it"),
        pytest.param(b"\x9b" + b"\xff" * 8, "not_cbor", id="a-huge-array"),
        pytest.param(b"\xbb\x7f" + b"\xff" * 7, "not_cbor", id="a-huge-map"),
        pytest.param(b"\x5b\x7f" + b"\xff" * 7, "not_cbor", id="huge-bytes"),
        pytest.param(b"\x7b\x7f" + b"\xff" * 7, "not_cbor", id="a-huge-text"),
        pytest.param(b"\x81" * 2000 + b"\0", "not_cbor", id="nested"),
        pytest.param(b"\x9f" * 2000, "not_cbor", id="nested-without-end"),
        pytest.param(b"\xc1" * 2000, "not_cbor", id="nested-tags"),
        pytest.param(b"\x62\xff\xff", "not_cbor", id="not-utf8"),
        pytest.param(b"\xc2\x59\x0f\x00" + b"\xff" * 0xF00, "not_cbor", id="a-huge-number"),
        pytest.param(tagged(4, [1, 2.5]), "not_cbor", id="an-odd-decimal"),
        pytest.param(tagged(64, [1]), "not_cbor", id="a-typed-array-of-no-bytes"),
        pytest.param(tagged(85, bytes(7)), "not_cbor", id="half-a-number"),
        pytest.param(tagged(40, [3]), "not_cbor", id="a-shaped-array-without-numbers"),
        pytest.param(tagged(40, [[3], [1, 2, 3]]), "not_cbor", id="a-shaped-array-of-a-list"),
        pytest.param(
            tagged(40, [[2**62, 2**62], cbor2.CBORTag(64, b"123")]), "not_cbor", id="a-huge-shape"
        ),
        pytest.param(tagged(40, [["a"], cbor2.CBORTag(64, b"123")]), "not_cbor", id="an-odd-shape"),
        pytest.param(cbor2.dumps(5), "wrong_fields", id="a-number"),
        pytest.param(cbor2.dumps(None), "wrong_fields", id="null"),
        pytest.param(b"\xf7", "wrong_fields", id="undefined"),
        pytest.param(cbor2.dumps({"id": "a"}), "wrong_fields", id="no-features"),
        pytest.param(cbor2.dumps({"features": "abc"}), "wrong_fields", id="text"),
        pytest.param(cbor2.dumps({"features": [1, "2", 3]}), "wrong_fields", id="text-between"),
        pytest.param(cbor2.dumps({"features": [1, b"2", 3]}), "wrong_fields", id="bytes-between"),
        pytest.param(cbor2.dumps({"features": [1, True, 3]}), "wrong_fields", id="true"),
        pytest.param(cbor2.dumps({"features": [bytes(12)]}), "wrong_fields", id="list-of-bytes"),
        pytest.param(cbor2.dumps({1: 2, "features": [1, 2, 3]}), "wrong_fields", id="a-key"),
        pytest.param(cbor2.dumps([1, 2]), "wrong_length", id="too-few"),
        pytest.param(cbor2.dumps(bytes(16)), "wrong_length", id="too-many-bytes"),
        pytest.param(tagged(85, bytes(16)), "wrong_length", id="too-many-typed"),
        pytest.param(
            tagged(40, [[1, 3], cbor2.CBORTag(64, b"123")]), "wrong_length", id="another-shape"
        ),
        pytest.param(
            cbor2.dumps({"timestamp": float("inf"), "features": [1, 2, 3]}), "not_finite", id="time"
        ),
        pytest.param(
            cbor2.dumps({"timestamp": cbor2.CBORTag(4, [2**62, 1]), "features": [1, 2, 3]}),
            "not_finite",
            id="a-huge-decimal",
        ),
        pytest.param(cbor2.dumps(bytes(MAX_BYTES)), "too_large", id="too-large"),
    ],
)
def test_a_refusal_has_its_reason_and_says_what_was_expected(payload: bytes, reason: str) -> None:
    with pytest.raises(PayloadError) as refused:
        CBOR.decode(payload)
    assert refused.value.reason == reason
    assert "3 numbers" in refused.value.expected


def test_the_id_in_a_refused_sample_is_found_for_its_sender() -> None:
    assert CBOR.sender_id(cbor2.dumps({"features": "nonsense", "id": 5})) == "5"
    for message in ([1], {"id": None}, {"id": [1]}, {"id": b"a"}):
        assert CBOR.sender_id(cbor2.dumps(message)) is None
    assert CBOR.sender_id(b"") is None
    assert opened({"kind": "cbor", "id": None}).sender_id(cbor2.dumps({"id": 5})) is None


@pytest.mark.parametrize("config", [{"kind": "cbor"}, {"kind": "senml", "encoding": "cbor"}])
def test_without_the_library_the_error_says_what_to_install(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cbor2", None)
    with pytest.raises(FormatConfigError, match="not installed") as refused:
        opened(config)
    assert "pip install 'escalon[cbor]'" in refused.value.fix
    assert opened({"kind": "json"}).decode(b"[1, 2, 3]")


def test_the_library_is_loaded_only_where_it_is_used() -> None:
    program = "import sys, tier1.__main__; print('cbor2' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "False"
