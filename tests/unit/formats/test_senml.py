"""SenML (RFC 8428): the records of a message are the features of one sample."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from shared.errors import PayloadError
from tests.unit.formats.opened import MAX_BYTES, NOW_S, opened, rows
from tier1.formats import FormatConfigError
from tier1.formats.senml_records import CBOR_LABELS, measurements

SENML = {"kind": "senml"}
NAMED = {"kind": "senml", "names": ["temp", "rpm"]}
T0 = 1_320_067_464.0
LABELS = {label: number for number, label in CBOR_LABELS.items()}

# RFC 8428, section 5.1.3: base fields that change on the way, with the resolved records of 5.1.4.
RFC_PACK: list[dict[str, Any]] = [
    {"bn": "urn:dev:ow:10e2073a01080063", "bt": 1320067464.0, "bu": "%RH", "v": 20},
    {"u": "lon", "v": 24.30621},
    {"u": "lat", "v": 60.07965},
    {"t": 60, "v": 20.3},
    {"u": "lon", "t": 60, "v": 24.30622},
    {"u": "lat", "t": 60, "v": 60.07965},
    {"t": 120, "v": 20.7},
    {"u": "%EL", "t": 150, "v": 98},
]


def pack(*records: dict[str, Any]) -> bytes:
    return json.dumps(records).encode()


def in_cbor(*records: dict[Any, Any]) -> bytes:
    return cbor2.dumps(
        [{LABELS.get(label, label): value for label, value in each.items()} for each in records]
    )


def test_the_example_of_the_rfc_resolves_as_it_says() -> None:
    resolved = list(measurements(RFC_PACK))
    assert {each.name for each in resolved} == {"urn:dev:ow:10e2073a01080063"}
    assert [each.number for each in resolved] == [each["v"] for each in RFC_PACK]
    assert [each.time_s - T0 for each in resolved] == [0, 0, 0, 60, 60, 60, 120, 150]


@pytest.mark.parametrize("encoding", ["json", "cbor"])
def test_the_records_with_numbers_are_the_features_in_their_order(encoding: str) -> None:
    payload = pack(*RFC_PACK) if encoding == "json" else in_cbor(*RFC_PACK)
    sample = opened(SENML | {"encoding": encoding}, (8,)).decode(payload)
    assert_array_equal(rows(sample, (8,)), np.array([[e["v"] for e in RFC_PACK]], np.float32))
    assert sample.timestamp == T0 + 150
    assert sample.id is None


@pytest.mark.parametrize("names", [["temp", "rpm"], ["dev:temp", "dev:rpm"], ["dev:temp", "rpm"]])
def test_records_are_found_by_name_with_or_without_the_base_name(names: list[str]) -> None:
    format_ = opened(SENML | {"names": names}, (2,))
    payload = pack(
        {"bn": "dev:", "n": "state", "vs": "on"}, {"n": "rpm", "v": 1500}, {"n": "temp", "v": 20.5},
        {"n": "hum", "v": 40},
    )  # fmt: skip
    assert_array_equal(rows(format_.decode(payload), (2,)), [[20.5, 1500]])


def test_a_base_field_holds_until_the_next_of_its_kind() -> None:
    resolved = list(
        measurements(
            [
                {"bn": "a:", "bt": T0, "bv": 100, "n": "x", "v": 1, "t": 1},
                {"n": "y", "v": 2},
                {"bn": "b:", "n": "x", "v": 3},
                {"bv": 0.5, "n": "y", "v": 4},
                {"bt": T0 + 10, "n": "z"},
            ]
        )
    )
    assert [each.name for each in resolved] == ["a:x", "a:y", "b:x", "b:y", "b:z"]
    assert [each.number for each in resolved] == [101, 102, 103, 4.5, 0.5]
    assert [each.time_s - T0 for each in resolved] == [1, 0, 0, 0, 10]


def test_a_sum_and_a_base_without_a_value_are_no_numbers() -> None:
    resolved = measurements(
        [{"n": "a", "bs": 3}, {"n": "b", "s": 3, "bv": 1}, {"n": "c", "u": "m"}]
    )
    assert [each.number for each in resolved] == [None, None, 1]


def test_true_and_false_are_numbers_where_they_are_asked_for() -> None:
    records = ({"n": "door", "vb": True}, {"n": "temp", "v": 3}, {"n": "lamp", "vb": False})
    by_name = opened(SENML | {"names": ["door", "lamp", "temp"]})
    assert_array_equal(rows(by_name.decode(pack(*records))), [[1, 0, 3]])
    assert_array_equal(rows(opened(SENML, (1,)).decode(pack(*records)), (1,)), [[3]])


@pytest.mark.parametrize(
    ("bt", "t", "timestamp"),
    [
        pytest.param(T0, 2.5, T0 + 2.5, id="absolute"),
        pytest.param(2**28, 0, 2**28, id="the-first-absolute-time"),
        pytest.param(0, 0, None, id="now"),
        pytest.param(None, None, None, id="no-time"),
        pytest.param(-10, 4, NOW_S - 6, id="in-the-past"),
        pytest.param(0, 5, NOW_S + 5, id="in-the-future"),
    ],
)
def test_a_time_is_absolute_or_relative_to_now(
    bt: float | None, t: float | None, timestamp: float | None
) -> None:
    times = {label: value for label, value in (("bt", bt), ("t", t)) if value is not None}
    sample = opened(SENML, (1,)).decode(pack({"n": "a", "v": 1} | times))
    assert sample.timestamp == timestamp


def test_the_latest_record_that_is_used_gives_the_time() -> None:
    payload = pack(
        {"bt": T0, "n": "rpm", "t": 2, "v": 1}, {"n": "temp", "v": 1}, {"n": "x", "t": 9, "v": 1}
    )
    assert opened(NAMED, (2,)).decode(payload).timestamp == T0 + 2


@pytest.mark.parametrize(
    ("value", "identity"), [({"vs": "a-17"}, "a-17"), ({"v": 17}, "17")], ids=["text", "number"]
)
def test_a_record_may_be_the_samples_id_and_is_then_no_feature(
    value: dict[str, Any], identity: str
) -> None:
    format_ = opened(SENML | {"id": "seq"}, (1,))
    sample = format_.decode(pack({"bn": "dev:", "n": "seq", **value}, {"n": "temp", "v": 3}))
    assert sample.id == identity
    assert_array_equal(rows(sample, (1,)), [[3]])


def test_fields_that_nobody_knows_are_passed_over_unless_they_must_be_understood() -> None:
    format_ = opened(SENML, (1,))
    sound = {"n": "a", "v": 1, "u": "Cel", "bver": 10, "ut": 3, "x": {"y": [1]}}
    assert_array_equal(rows(format_.decode(pack(sound)), (1,)), [[1]])
    with pytest.raises(PayloadError, match="field x_ is not understood"):
        format_.decode(pack(sound | {"x_": 1}))
    in_binary = opened(SENML | {"encoding": "cbor"}, (1,))
    assert_array_equal(rows(in_binary.decode(in_cbor(sound | {99: 1, b"x": 1})), (1,)), [[1]])
    with pytest.raises(PayloadError, match="field x_ is not understood"):
        in_binary.decode(in_cbor(sound | {"x_": 1}))


def test_numbers_of_cbor_may_be_decimal_fractions() -> None:
    payload = in_cbor({"n": "a", "v": cbor2.CBORTag(4, [-1, 215])})
    sample = opened(SENML | {"encoding": "cbor"}, (1,)).decode(payload)
    assert_array_equal(rows(sample, (1,)), np.array([[21.5]], np.float32))


def test_records_come_as_bytes_where_they_are() -> None:
    image = opened(SENML, (2,), "uint8")
    sound = pack({"bn": "x", "n": "1", "v": 0}, {"n": "2", "v": 255})
    assert_array_equal(rows(image.decode(sound), (2,), "uint8"), [[0, 255]])
    for odd in (-1, 256, 1.5):
        with pytest.raises(PayloadError, match=r"features\[1\]") as refused:
            image.decode(pack({"bn": "x", "n": "1", "v": 0}, {"n": "2", "v": odd}))
        assert refused.value.reason == "out_of_range"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(b"", "not_json", id="empty"),
        pytest.param(b"hello", "not_json", id="text"),
        pytest.param(b"[{", "not_json", id="cut-off"),
        pytest.param(b"[" * 3000, "wrong_fields", id="nested"),
        pytest.param(b'[{"x":' * 600, "not_json", id="nested-in-objects"),
        pytest.param(b"{}", "wrong_fields", id="no-list"),
        pytest.param(b"[1]", "wrong_fields", id="no-records"),
        pytest.param(pack({"n": "temp", "v": "1"}), "wrong_fields", id="text-for-a-number"),
        pytest.param(pack({"n": "temp", "v": None}), "wrong_fields", id="null-for-a-number"),
        pytest.param(pack({"n": "temp", "v": True}), "wrong_fields", id="true-for-a-number"),
        pytest.param(pack({"n": 5, "v": 1}), "wrong_fields", id="a-number-for-a-name"),
        pytest.param(pack({"bn": "x" * 513, "v": 1}), "wrong_fields", id="an-endless-name"),
        pytest.param(pack({"n": "temp", "v": 10**400}), "wrong_fields", id="a-huge-number"),
        pytest.param(pack({"n": "temp", "v": 1, "vs": "1"}), "wrong_fields", id="two-values"),
        pytest.param(pack({"n": "temp", "v": 1}), "wrong_fields", id="a-record-is-missing"),
        pytest.param(
            pack({"n": "temp", "v": 1}, {"n": "rpm", "vs": "x"}), "wrong_fields", id="no-number"
        ),
        pytest.param(
            pack({"n": "temp", "v": 1}, {"n": "rpm", "v": 1}, {"n": "rpm", "v": 2}),
            "wrong_fields", id="a-record-twice",
        ),
        pytest.param(
            pack({"bver": 11, "n": "temp", "v": 1}), "newer_schema", id="a-newer-version"
        ),
        pytest.param(pack({"bver": 1.5, "n": "temp", "v": 1}), "wrong_fields", id="odd-version"),
        pytest.param(pack({"vs": "x" * MAX_BYTES}), "too_large", id="too-large"),
    ],
)  # fmt: skip
def test_a_refusal_has_its_reason_and_says_what_was_expected(payload: bytes, reason: str) -> None:
    with pytest.raises(PayloadError) as refused:
        opened(NAMED, (2,)).decode(payload)
    assert refused.value.reason == reason
    assert "SenML in JSON with the records temp, rpm" in refused.value.expected


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        pytest.param({"v": float("inf"), "n": "a", "t": 1}, None, id="a-number-the-batch-refuses"),
        pytest.param({"v": 1, "n": "a", "t": float("nan")}, "not_finite", id="no-time"),
        pytest.param({"v": 1, "n": "a", "bt": float("inf")}, "not_finite", id="an-endless-time"),
    ],
)
def test_cbor_has_numbers_that_are_no_times(record: dict[str, Any], reason: str | None) -> None:
    format_ = opened(SENML | {"encoding": "cbor"}, (1,))
    if reason is None:
        assert format_.decode(in_cbor(record)).rows == [record["v"]]
        return
    with pytest.raises(PayloadError) as refused:
        format_.decode(in_cbor(record))
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([{"n": "a", "v": 1}], "wrong_fields"),
        ([{"n": "seq", "v": 1.5}, {"n": "a", "v": 1}], "bad_id"),
        ([{"n": "seq", "vs": ""}, {"n": "a", "v": 1}], "bad_id"),
        ([{"n": "seq", "vs": "x" * 129}, {"n": "a", "v": 1}], "bad_id"),
        ([{"n": "seq", "vb": True}, {"n": "a", "v": 1}], "bad_id"),
        ([{"n": "seq", "vd": "abc"}, {"n": "a", "v": 1}], "bad_id"),
    ],
    ids=["missing", "no-whole-number", "empty", "too-long", "truth-value", "data"],
)
def test_an_id_that_is_none_is_refused(records: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(PayloadError) as refused:
        opened(SENML | {"id": "seq"}, (1,)).decode(pack(*records))
    assert refused.value.reason == reason


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_records_is_refused(count: int) -> None:
    with pytest.raises(PayloadError, match=f"{count} records with a number, not 2"):
        opened(SENML, (2,)).decode(pack(*({"n": str(index), "v": 1} for index in range(count))))


def test_names_that_do_not_fit_the_input_are_refused_at_start() -> None:
    with pytest.raises(FormatConfigError, match="2 names, but the input takes 3 numbers"):
        opened(NAMED, (3,))


@given(st.lists(st.floats(-1e30, 1e30), min_size=3, max_size=3), st.floats(-1e6, 1e6))
def test_a_sound_pack_always_passes_as_it_was(numbers: list[float], base: float) -> None:
    records = [{"n": str(index), "v": number} for index, number in enumerate(numbers)]
    records[0] |= {"bn": "dev:", "bv": base, "bt": T0}
    expected = np.array([[number + base for number in numbers]], np.float32)
    for encoding, payload in (("json", pack(*records)), ("cbor", in_cbor(*records))):
        sample = opened(SENML | {"encoding": encoding}).decode(payload)
        assert_array_equal(rows(sample), expected)
        assert sample.timestamp == T0
