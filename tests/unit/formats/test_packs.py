"""A message may be a pack of samples, in every format that has packs."""

from __future__ import annotations

import io
import json
from typing import Any

import cbor2
import msgspec
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from shared.errors import PayloadError
from shared.inputs import InputDtype
from tests.unit.formats.opened import opened, rows

PACK = {"pack": {"max_samples": 4}}
ENCODERS = {
    "json": lambda message: json.dumps(message).encode(),
    "msgpack": msgspec.msgpack.encode,
    "cbor": cbor2.dumps,
}
DTYPES: list[InputDtype] = ["float32", "uint8"]


def payload(kind: str, samples: NDArray[Any]) -> bytes:
    """Returns a pack in a format."""
    if kind == "raw":
        return samples.tobytes()
    if kind == "npy":
        file = io.BytesIO()
        np.save(file, samples)
        return file.getvalue()
    return ENCODERS[kind]({"id": "p1", "features": samples.tolist()})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("kind", ["raw", "npy", *ENCODERS])
def test_a_pack_comes_as_it_was(kind: str, samples: int, dtype: InputDtype) -> None:
    pack = np.arange(samples * 6, dtype=dtype).reshape(samples, 2, 3)
    format_ = opened({"kind": kind, **PACK}, (2, 3), dtype)
    for shape in ((samples, 2, 3), (samples, 6)):
        decoded = format_.decode(payload(kind, pack.reshape(shape)))
        assert_array_equal(rows(decoded, (2, 3), dtype), pack)


@pytest.mark.parametrize("samples", [0, 5])
@pytest.mark.parametrize("kind", ["raw", "npy", *ENCODERS])
def test_an_empty_pack_and_one_of_too_many_samples_are_refused(kind: str, samples: int) -> None:
    pack = np.zeros((samples, 3), np.float32)
    with pytest.raises(PayloadError) as refused:
        opened({"kind": kind, **PACK}).decode(payload(kind, pack))
    assert refused.value.reason in {"wrong_length", "wrong_fields"}
    assert "1 to 4" in refused.value.expected


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize(
    "features",
    [
        pytest.param([[1, 2, 3], [1, 2]], id="a-short-sample"),
        pytest.param([1, 2, 3], id="one-sample"),
        pytest.param([[[1, 2, 3]]], id="nested-too-deep"),
        pytest.param([[1, 2, 3], None], id="null-for-a-sample"),
        pytest.param([[1, 2, 3], ["a", 2, 3]], id="text"),
        pytest.param([], id="nothing"),
        pytest.param("abc", id="no-list"),
    ],
)
def test_a_pack_of_odd_samples_is_refused(kind: str, features: Any) -> None:
    with pytest.raises(PayloadError) as refused:
        opened({"kind": kind, **PACK}).decode(ENCODERS[kind]({"features": features}))
    assert refused.value.reason == "wrong_fields"


@pytest.mark.parametrize("kind", ENCODERS)
def test_samples_of_a_pack_have_ids_of_their_own(kind: str) -> None:
    message = {"id": 7, "ids": ["a", 2], "features": [[1, 2, 3], [4, 5, 6]]}
    decoded = opened({"kind": kind, **PACK}).decode(ENCODERS[kind](message))
    assert (decoded.id, decoded.ids) == ("7", ("a", "2"))


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        pytest.param(["a"], "wrong_length", id="too-few"),
        pytest.param(["a", "b", "c"], "wrong_length", id="too-many"),
        pytest.param(["a", ""], "bad_id", id="empty"),
        pytest.param(["a", "x" * 129], "bad_id", id="too-long"),
        pytest.param(["a", None], "wrong_fields", id="null"),
        pytest.param(["a", 1.5], "wrong_fields", id="no-whole-number"),
        pytest.param("ab", "wrong_fields", id="no-list"),
    ],
)
def test_ids_that_are_none_are_refused(kind: str, ids: Any, reason: str) -> None:
    message = {"ids": ids, "features": [[1, 2, 3], [4, 5, 6]]}
    with pytest.raises(PayloadError) as refused:
        opened({"kind": kind, **PACK}).decode(ENCODERS[kind](message))
    assert refused.value.reason == reason


def test_a_path_of_ids_that_is_written_down_must_lead_somewhere() -> None:
    format_ = opened({"pack": {"max_samples": 4, "ids": "meta.ids"}})
    decoded = format_.decode(b'{"meta": {"ids": [1]}, "features": [[1, 2, 3]]}')
    assert decoded.ids == ("1",)
    for odd in (b'{"features": [[1, 2, 3]]}', b"[[1, 2, 3]]"):
        with pytest.raises(PayloadError):
            format_.decode(odd)


def test_a_pack_may_be_the_bare_list_of_its_samples() -> None:
    decoded = opened(PACK).decode(b"[[1, 2, 3], [4, 5, 6]]")
    assert_array_equal(rows(decoded), [[1, 2, 3], [4, 5, 6]])
    assert decoded.ids is None


@pytest.mark.parametrize("kind", ["msgpack", "cbor"])
@pytest.mark.parametrize("whole", [True, False], ids=["one-blob", "a-blob-a-sample"])
def test_a_pack_may_come_as_bytes(kind: str, whole: bool) -> None:
    pack = np.array([[1, 2, 3], [4, 5, 6]], "<i2")
    features = pack.tobytes() if whole else [sample.tobytes() for sample in pack]
    format_ = opened({"kind": kind, "dtype": "int16", **PACK})
    decoded = format_.decode(ENCODERS[kind]({"features": features, "ids": ["a", "b"]}))
    assert_array_equal(rows(decoded), pack)
    assert decoded.ids == ("a", "b")


@pytest.mark.parametrize("kind", ["msgpack", "cbor"])
@pytest.mark.parametrize(
    "features",
    [
        pytest.param(b"", id="none"),
        pytest.param(bytes(7), id="half-a-number"),
        pytest.param(bytes(8), id="less-than-a-sample"),
        pytest.param(bytes(60), id="too-many"),
        pytest.param([bytes(12), bytes(8)], id="a-short-sample"),
        pytest.param([bytes(12)] * 5, id="too-many-blobs"),
    ],
)
def test_bytes_that_are_no_pack_are_refused(kind: str, features: Any) -> None:
    with pytest.raises(PayloadError) as refused:
        opened({"kind": kind, **PACK}).decode(ENCODERS[kind]({"features": features}))
    assert refused.value.reason == "wrong_length"


def test_a_pack_of_numbers_beyond_float32_is_left_to_the_batch() -> None:
    assert np.isinf(rows(opened(PACK).decode(b"[[1, 2, 1e39]]"))[0, 2])
