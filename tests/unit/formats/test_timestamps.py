"""A timestamp that is text goes on with every answer and every question: it has a maximum."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cbor2
import msgspec
import pytest

from shared.errors import PayloadError
from tests.unit.formats.opened import opened
from tier1.formats.decoded import MAX_TIMESTAMP_CHARACTERS

Encode = Callable[[Any], bytes]

ENCODERS: dict[str, Encode] = {
    "json": lambda message: json.dumps(message, ensure_ascii=False).encode(),
    "msgpack": msgspec.msgpack.encode,
    "cbor": cbor2.dumps,
}
CBOR_LABELS = {"n": 0, "v": 2, "t": 6, "bt": -3}  # RFC 8428, section 6
LONGEST = "2026-01-02T03:04:05Z".ljust(MAX_TIMESTAMP_CHARACTERS, "é")
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a-list": ({}, {"features": [1, 2, 3]}),
    "numbers-at-paths": ({"features": ["a", "b", "c"]}, {"a": 1, "b": 2, "c": 3}),
    "a-pack": ({"pack": {"max_samples": 4}}, {"features": [[1, 2, 3], [4, 5, 6]]}),
}


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_text_has_at_most_128_characters(kind: str, shape: str) -> None:
    config, message = SHAPES[shape]
    format_ = opened({"kind": kind, **config})
    encode = ENCODERS[kind]
    assert format_.decode(encode(message | {"timestamp": LONGEST})).timestamp == LONGEST
    with pytest.raises(PayloadError, match="at most 128 characters, not 129") as refused:
        format_.decode(encode(message | {"timestamp": LONGEST + "é"}))
    assert refused.value.reason == "bad_timestamp"
    assert refused.value.expected == format_.expected


def test_text_in_cbor_has_its_maximum_also_behind_a_tag() -> None:
    format_ = opened({"kind": "cbor"})
    message = {"timestamp": cbor2.CBORTag(0, LONGEST + "Z"), "features": [1, 2, 3]}
    with pytest.raises(PayloadError) as refused:
        format_.decode(cbor2.dumps(message))
    assert refused.value.reason == "bad_timestamp"


@pytest.mark.parametrize("encoding", ["json", "cbor"])
@pytest.mark.parametrize("field", ["t", "bt"])
def test_a_time_in_senml_is_a_number_and_never_text(encoding: str, field: str) -> None:
    record: dict[Any, Any] = {"n": "a", "v": 1, field: LONGEST}
    if encoding == "cbor":
        record = {CBOR_LABELS[label]: value for label, value in record.items()}
    format_ = opened({"kind": "senml", "encoding": encoding}, (1,))
    with pytest.raises(PayloadError) as refused:
        format_.decode(ENCODERS[encoding]([record]))
    assert refused.value.reason == "wrong_fields"
