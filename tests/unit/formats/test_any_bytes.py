"""Whatever comes, in whatever format: samples as the model takes them, or a PayloadError."""

from __future__ import annotations

import io
import json
from typing import Any

import cbor2
import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.errors import PayloadError
from shared.inputs import InputDtype
from tests.unit.formats.opened import MAX_BYTES, opened, rows
from tier1.formats import MAX_ID_CHARACTERS, MAX_TIMESTAMP_CHARACTERS

SHAPE = (2, 3)
NUMBERS = np.arange(6, dtype=np.float32).reshape(SHAPE)
OBJECT = {"id": "a1", "timestamp": 1_700_000_000, "ids": [1, "b"], "features": NUMBERS.tolist()}
NAMES = ["a.x", "a.y", "b", "c", "d", "e"]
NAMED = {"id": 7, "a": {"x": 1, "y": 2}, "b": 3, "c": 4, "d": 5, "e": 6}
RECORDS = [{"bn": "dev:", "bt": 1.7e9, "bv": 1, "n": str(index), "v": index} for index in range(6)]
PACK = {"max_samples": 3}


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


BLOB = NUMBERS.tobytes()
IN_PACK = OBJECT | {"features": [NUMBERS.tolist()] * 2}
TYPED = OBJECT | {"features": cbor2.CBORTag(40, [[2, 3], cbor2.CBORTag(85, BLOB)])}
CASES: dict[str, tuple[dict[str, Any], InputDtype, list[bytes]]] = {
    "json": ({}, "float32", [as_json(OBJECT), as_json(OBJECT["features"])]),
    "json-bytes": ({}, "uint8", [as_json(OBJECT | {"features": [1, 2, 3, 4, 5, 6]})]),
    "json-names": ({"features": NAMES}, "float32", [as_json(NAMED)]),
    "json-pack": ({"pack": PACK}, "float32", [as_json(IN_PACK)]),
    "msgpack": (
        {"kind": "msgpack"}, "float32",
        [msgspec.msgpack.encode(each) for each in (OBJECT, OBJECT | {"features": BLOB}, BLOB)],
    ),
    "msgpack-pack": (
        {"kind": "msgpack", "pack": PACK}, "float32",
        [msgspec.msgpack.encode(each) for each in (IN_PACK, IN_PACK | {"features": [BLOB, BLOB]})],
    ),
    "msgpack-names": (
        {"kind": "msgpack", "features": NAMES}, "uint8", [msgspec.msgpack.encode(NAMED)],
    ),
    "cbor": (
        {"kind": "cbor"}, "float32",
        [cbor2.dumps(each) for each in (OBJECT, OBJECT | {"features": BLOB}, TYPED, BLOB)],
    ),
    "cbor-pack": (
        {"kind": "cbor", "pack": PACK}, "float32",
        [cbor2.dumps(each) for each in (IN_PACK, IN_PACK | {"features": [BLOB, BLOB]})],
    ),
    "cbor-names": ({"kind": "cbor", "features": NAMES}, "uint8", [cbor2.dumps(NAMED)]),
    "npy": ({"kind": "npy"}, "float32", [npy(NUMBERS), npy(np.asfortranarray(NUMBERS, ">f8"))]),
    "npy-pack": ({"kind": "npy", "pack": PACK}, "uint8", [npy(np.zeros((2, 2, 3), "<i4"))]),
    "raw": ({"kind": "raw", "dtype": "float64"}, "float32", [bytes(48)]),
    "raw-pack": ({"kind": "raw", "dtype": "int16", "pack": PACK}, "uint8", [bytes(24)]),
    "senml": ({"kind": "senml"}, "float32", [as_json(RECORDS)]),
    "senml-names": (
        {"kind": "senml", "names": list("012345"), "id": "0"}, "uint8", [as_json(RECORDS)],
    ),
    "senml-cbor": (
        {"kind": "senml", "encoding": "cbor"}, "float32",
        [cbor2.dumps(RECORDS), cbor2.dumps([{0: "a", 2: 1.5, 6: -3}] * 6)],
    ),
}  # fmt: skip
FORMATS = {name: opened(config, SHAPE, dtype) for name, (config, dtype, _) in CASES.items()}


def check(name: str, payload: bytes) -> None:
    config, dtype, _ = CASES[name]
    format_ = FORMATS[name]
    try:
        decoded = format_.decode(payload)
    except PayloadError as error:
        assert error.expected == format_.expected
        assert error.reason
        assert str(error)
    else:
        samples = rows(decoded, SHAPE, dtype)
        assert len(samples) in ((1, 2, 3) if config.get("pack") else (1,))
        for identity in (decoded.id, *(decoded.ids or ())):
            assert identity is None or 0 < len(identity) <= MAX_ID_CHARACTERS
        assert isinstance(decoded.timestamp, float | str | None)
        if isinstance(decoded.timestamp, float):
            assert np.isfinite(decoded.timestamp)
        if isinstance(decoded.timestamp, str):
            assert len(decoded.timestamp) <= MAX_TIMESTAMP_CHARACTERS
    told = format_.sender_id(payload)
    assert told is None or 0 < len(told) <= MAX_ID_CHARACTERS


@pytest.mark.parametrize("name", CASES)
def test_what_is_broken_here_is_sound_at_first(name: str) -> None:
    for payload in CASES[name][2]:
        FORMATS[name].decode(payload)


@pytest.mark.parametrize("name", CASES)
@given(payload=st.binary(max_size=300))
@example(payload=b"")
@example(payload=bytes(MAX_BYTES + 1))
@example(payload=b"{" * 4000)
@example(payload=b"[" * 4000)
@example(payload=b"\x81" * 4000)
@example(payload=b"\x91" * 4000)
@example(payload=b"\xd8\x1c" * 2000)
@example(payload=b'{"id": "\xed\xa0\x80"}')
@example(payload=b'{"\xff": 1}')
@example(payload=b'{"id": 1e999}')
@example(payload=b'{"id": %s, "features": [1, 2, 3, 4, 5, 6]}' % (b"9" * 4000))
@example(payload=b'{"timestamp": "%s", "features": [1, 2, 3, 4, 5, 6]}' % (b"9" * 400))
@example(payload=b'{"timestamp": %s, "features": [1, 2, 3, 4, 5, 6]}' % (b"9" * 400))
def test_any_bytes_are_samples_or_a_payload_error(name: str, payload: bytes) -> None:
    check(name, payload)


@st.composite
def mutations(draw: st.DrawFn, payload: bytes) -> bytes:
    """Draws what a bad line, a bad program or a bad person makes of a payload."""
    data = bytearray(payload)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.sampled_from(["change", "cut", "drop", "insert", "repeat"]))
        if what == "change" and data:
            data[at] = draw(st.integers(0, 255))
        elif what == "cut":
            del data[at:]
        elif what == "drop":
            del data[at : at + draw(st.integers(1, 8))]
        elif what == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            data[at:at] = data[at : at + 16] * draw(st.integers(1, 4))
    return bytes(data)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=150)
@given(data=st.data())
def test_any_change_to_a_sound_payload_is_samples_or_a_payload_error(
    name: str, data: st.DataObject
) -> None:
    sound = data.draw(st.sampled_from(CASES[name][2]))
    check(name, data.draw(mutations(sound)))


def plain_values(*leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    numbers = st.integers(-(2**70), 2**70) | st.floats() | st.integers(0, 255)
    leaf = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20), *leaves)
    keys = st.sampled_from(["id", "features", "ids", "timestamp", "a", "x", "b", "n", "v", "bt"])
    return st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(keys, inner, max_size=5),
        max_leaves=12,
    )


def messages(*leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Returns values that look like messages here and there."""
    number = st.floats() | st.integers(-1, 256)
    row = st.lists(number, min_size=5, max_size=7)
    window = st.lists(st.lists(number, min_size=3, max_size=3), min_size=2, max_size=2)
    features = row | window | st.lists(row | window, max_size=4) | plain_values(*leaves)
    anything = plain_values(*leaves)
    return anything | st.fixed_dictionaries(
        {"features": features},
        optional={
            "id": st.text(max_size=140) | anything,
            "timestamp": st.floats() | anything,
            "ids": st.lists(st.text(max_size=3) | st.integers(), max_size=4) | anything,
        },
    )


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("json", "senml"))])
@given(value=messages())
def test_any_json_is_samples_or_a_payload_error(name: str, value: object) -> None:
    check(name, json.dumps(value).encode())


BLOBS = st.binary(max_size=30) | st.just(BLOB)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("msgpack")])
@given(value=messages(BLOBS))
def test_any_messagepack_is_samples_or_a_payload_error(name: str, value: object) -> None:
    try:
        payload = msgspec.msgpack.encode(value)
    except (OverflowError, UnicodeEncodeError):  # what MessagePack cannot hold
        return
    check(name, payload)


TAGGED = st.builds(
    cbor2.CBORTag,
    st.sampled_from([0, 1, 2, 4, 5, 25, 28, 29, 30, 35, 36, 40, 64, 69, 76, 85, 87, 256, 1040]),
    BLOBS | st.lists(st.integers(-5, 5), max_size=3) | st.text(max_size=5) | st.floats(),
)
SHAPED = st.builds(
    lambda shape, blob: cbor2.CBORTag(40, [shape, cbor2.CBORTag(85, blob)]),
    st.lists(st.integers(-2, 7) | st.integers(), max_size=4),
    BLOBS,
)


@pytest.mark.parametrize("name", [name for name in CASES if "cbor" in name])
@given(value=messages(BLOBS, TAGGED, SHAPED))
def test_any_cbor_is_samples_or_a_payload_error(name: str, value: object) -> None:
    try:
        payload = cbor2.dumps(value)
    except (cbor2.CBOREncodeError, UnicodeEncodeError):  # what CBOR cannot hold
        return
    check(name, payload)
