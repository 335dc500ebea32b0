"""A pipeline whose model has several inputs takes them from one message."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import msgspec
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from shared.errors import PayloadError
from shared.inputs import Inputs, InputSpec
from tests.unit.formats.opened import opened, rows
from tier1.formats import FormatConfigError

INPUTS = Inputs([InputSpec((2, 2), "image"), InputSpec((3,), "state")])
PATHS = {"image": "camera.pixels", "state": ["temp", "motor.rpm", "motor.current"]}
MESSAGE: dict[str, Any] = {
    "motor": {"current": 7, "rpm": 6},
    "temp": 5,
    "camera": {"pixels": [[1, 2], [3, 4]]},
}
ENCODERS = {
    "json": lambda message: json.dumps(message).encode(),
    "msgpack": msgspec.msgpack.encode,
    "cbor": cbor2.dumps,
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_each_input_is_read_where_its_path_leads(kind: str) -> None:
    format_ = opened({"kind": kind, "features": PATHS}, inputs=INPUTS)
    for pixels in ([[1, 2], [3, 4]], [1, 2, 3, 4]):
        payload = ENCODERS[kind](MESSAGE | {"camera": {"pixels": pixels}})
        assert_array_equal(rows(format_.decode(payload), (7,)), [[1, 2, 3, 4, 5, 6, 7]])


@pytest.mark.parametrize("kind", ["msgpack", "cbor"])
def test_one_input_may_come_as_bytes_and_another_as_numbers(kind: str) -> None:
    format_ = opened({"kind": kind, "features": PATHS, "dtype": "uint8"}, inputs=INPUTS)
    payload = ENCODERS[kind](MESSAGE | {"camera": {"pixels": bytes([1, 2, 3, 4])}})
    assert_array_equal(rows(format_.decode(payload), (7,)), [[1, 2, 3, 4, 5, 6, 7]])


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_pack_has_as_many_of_each_part(kind: str) -> None:
    config = {"kind": kind, "features": PATHS, "pack": {"max_samples": 4}}
    format_ = opened(config, inputs=INPUTS)
    message = {
        "camera": {"pixels": [[[1, 2], [3, 4]], [[11, 12], [13, 14]]]},
        "temp": [5, 15],
        "motor": {"rpm": [6, 16], "current": [7, 17]},
    }
    expected = [[1, 2, 3, 4, 5, 6, 7], [11, 12, 13, 14, 15, 16, 17]]
    assert_array_equal(rows(format_.decode(ENCODERS[kind](message)), (7,)), expected)
    with pytest.raises(PayloadError, match=r"2 samples in camera.pixels, 1 in temp"):
        format_.decode(ENCODERS[kind](message | {"temp": [5]}))


def test_bytes_alone_keep_their_type() -> None:
    inputs = Inputs([InputSpec((2,), "left", "uint8"), InputSpec((1,), "right", "uint8")])
    format_ = opened({"features": {"left": "l", "right": "r"}}, inputs=inputs)
    assert_array_equal(rows(format_.decode(b'{"l":[1,2],"r":[3]}'), (3,), "uint8"), [[1, 2, 3]])


@pytest.mark.parametrize("kind", ["json", "raw"])
def test_without_paths_all_inputs_come_as_one_flat_list(kind: str) -> None:
    numbers = np.arange(7, dtype=np.float32)
    payload = numbers.tobytes() if kind == "raw" else json.dumps(numbers.tolist()).encode()
    assert_array_equal(rows(opened({"kind": kind}, inputs=INPUTS).decode(payload), (7,)), [numbers])


@pytest.mark.parametrize(
    ("features", "inputs", "problem"),
    [
        pytest.param({"image": "i"}, INPUTS, "the inputs are image, state", id="one-missing"),
        pytest.param(
            {"image": "i", "states": "s"}, INPUTS, "given for image, states", id="misspelt"
        ),
        pytest.param(
            {"image": "i", "state": ["a", "b"]}, INPUTS, "2 paths .* the input state takes 3",
            id="too-few-names",
        ),
        pytest.param({"image": "i"}, Inputs.plain((3,)), "one without a name", id="no-names"),
        pytest.param(["a", "b"], Inputs.plain((3,)), "2 paths .* the input takes 3", id="list"),
    ],
)  # fmt: skip
def test_features_that_do_not_fit_the_inputs_are_refused_with_a_fix(
    features: Any, inputs: Inputs, problem: str
) -> None:
    with pytest.raises(FormatConfigError, match=problem) as refused:
        opened({"features": features}, inputs=inputs)
    assert refused.value.fix
