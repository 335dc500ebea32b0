"""A model's inputs are fed by name, type and shape, or refused with what to write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.errors import ArtefactError
from shared.inputs import Inputs, InputSpec
from shared.model_feed import Feed, Port

FLOATS = Port("x", "tensor(float)", ("N", 3))


@pytest.mark.parametrize(
    ("ports", "specs", "message"),
    [
        pytest.param(
            [FLOATS, Port("speed", "tensor(float)", (None, 1))],
            [InputSpec((3,))],
            "it has 2 inputs: `x`: tensor(float) [N, 3]; `speed`: tensor(float) [?, 1]. "
            "Fix: write `inputs:`",
            id="several-for-one",
        ),
        pytest.param(
            [FLOATS], [InputSpec((3,), "y")], "Fix: name the model's inputs", id="another-name"
        ),
        pytest.param(
            [FLOATS],
            [InputSpec((3,), "x"), InputSpec((1,), "y")],
            "its inputs are `x`: tensor(float) [N, 3], those of the pipeline x, y",
            id="one-too-many",
        ),
        pytest.param(
            [Port("x", "tensor(float)", ("N", 1, 28, 28))],
            [InputSpec((784,))],
            "does not take samples of shape [784]. Fix: write `shape: [1, 28, 28]`",
            id="another-rank",
        ),
        pytest.param(
            [Port("x", "tensor(float)", ("N", 3, "W"))],
            [InputSpec((1, 8))],
            "Fix: write `shape: [3, W]`",
            id="another-size",
        ),
        pytest.param(
            [Port("x", "tensor(string)", ("N", 3))],
            [InputSpec((3,))],
            "is none of tensor(float), tensor(double)",
            id="texts",
        ),
        pytest.param(
            [Port("x", "tensor(uint8)", ("N", 3))],
            [InputSpec((3,))],
            "Fix: write `dtype: uint8`",
            id="floats-for-bytes",
        ),
        pytest.param(
            [Port("x", "tensor(int64)", ("N", 3))],
            [InputSpec((3,), mean=(1.0,))],
            "Fix: leave out `mean` and `scale`",
            id="normalised-for-integers",
        ),
        pytest.param(
            [Port("x", "tensor(float)", (1, 3)), Port("y", "tensor(float)", (2, 3))],
            [InputSpec((3,), "x"), InputSpec((3,), "y")],
            "no batch size in common",
            id="two-batch-sizes",
        ),
        pytest.param(
            [Port("x", "tensor(float)", (0, 3))],
            [InputSpec((3,))],
            "no batch size in common",
            id="a-batch-of-none",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_write(
    ports: list[Port], specs: list[InputSpec], message: str
) -> None:
    with pytest.raises(ArtefactError) as refusal:
        Feed(ports, Inputs(specs))
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(("N", 3), id="named-batch"),
        pytest.param((None, 3), id="free-batch"),
        pytest.param((None, "features"), id="free-size"),
        pytest.param((), id="unknown"),
    ],
)
def test_a_free_dimension_takes_any_size(shape: tuple[Any, ...]) -> None:
    assert Feed([Port("x", "tensor(float)", shape)], Inputs.plain((3,))).batch_size is None


def test_a_fixed_batch_is_told() -> None:
    assert Feed([Port("x", "tensor(float)", (8, 3))], Inputs.plain((3,))).batch_size == 8


def test_floats_that_the_model_takes_as_they_are_are_not_copied() -> None:
    rows = np.ones((2, 3), np.float32)
    assert Feed([FLOATS], Inputs.plain((3,)))(rows)["x"] is rows


@pytest.mark.parametrize(
    ("onnx_type", "dtype"),
    [
        ("tensor(float)", "float32"),
        ("tensor(double)", "float64"),
        ("tensor(float16)", "float16"),
        ("tensor(int32)", "int32"),
        ("tensor(int64)", "int64"),
    ],
)
def test_rows_are_cast_to_what_the_model_takes(onnx_type: str, dtype: str) -> None:
    feed = Feed([Port("x", onnx_type, ("N", 3))], Inputs.plain((3,)))
    fed = feed(np.array([[1, 2, 3e30]], np.float32))["x"]
    assert fed.dtype.name == dtype
    assert fed[0, :2].tolist() == [1, 2]


def test_inputs_are_matched_by_name_whatever_the_order_of_the_model() -> None:
    ports = [Port("b", "tensor(float)", ("N", 1)), Port("a", "tensor(double)", ("N", 2))]
    feed = Feed(ports, Inputs([InputSpec((2,), "a", scale=(2.0,)), InputSpec((1,), "b")]))
    fed = feed(np.array([[2, 4, 6]], np.float32))
    assert (fed["a"].tolist(), fed["b"].tolist()) == ([[1, 2]], [[6]])
    assert (fed["a"].dtype.name, fed["b"].dtype.name) == ("float64", "float32")
