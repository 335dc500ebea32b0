"""What is read of a model's graph is what ``onnx`` wrote; what is damaged is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from shared.errors import ArtefactError
from shared.onnx_graph import Graph
from tests.onnx_models import FLOAT, PortSpec, onnx_file

INPUT: list[PortSpec] = [("x", FLOAT, ["N", 3])]
OUTPUT: list[PortSpec] = [("y", FLOAT, ["N", 3])]


def classifier(**attributes: Any) -> bytes:
    node = helper.make_node("Classifier", ["x"], ["label", "y"], domain="ai.onnx.ml", **attributes)
    return onnx_file([node], INPUT, OUTPUT)


def with_constant(array: NDArray[Any]) -> Graph:
    return Graph(
        onnx_file([helper.make_node("Identity", ["x"], ["y"])], INPUT, OUTPUT, {"c": array})
    )


def test_a_node_is_found_by_each_of_its_outputs() -> None:
    graph = Graph(classifier())
    node = graph.producer("label")
    assert node is not None
    assert node is graph.producer("y")
    assert (node.op_type, node.inputs, node.outputs) == ("Classifier", ("x",), ("label", "y"))
    assert graph.producer("z") is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([0, 1, 300, 2**40], ("0", "1", "300", str(2**40)), id="integers"),
        pytest.param([-1, -(2**63)], ("-1", str(-(2**63))), id="negative-integers"),
        pytest.param(["a", "größe"], ("a", "größe"), id="texts"),
    ],
)
def test_the_values_of_an_attribute_are_read(values: list[Any], expected: tuple[str, ...]) -> None:
    node = Graph(classifier(alpha=1.5, classes=values, omega=[7])).producer("y")
    assert node is not None
    assert node.values(("classes",)) == expected
    assert node.values(("nothing",)) == ()
    assert node.values(("alpha",)) == ()


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        pytest.param(np.array([3, -1, 70_000], np.int64), ("3", "-1", "70000"), id="int64"),
        pytest.param(np.array([3, -1], np.int32), ("3", "-1"), id="int32"),
        pytest.param(np.array(["a", "b"], object), ("a", "b"), id="texts"),
        pytest.param(np.array([0.5, 1.5], np.float32), (), id="floats"),
    ],
)
def test_a_constant_is_read(array: NDArray[Any], expected: tuple[str, ...]) -> None:
    graph = with_constant(array)
    assert graph.constant("c") == expected
    assert graph.constant("x") == ()


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64], ids=["int32", "int64"])
def test_a_constant_that_is_not_raw_is_read(kind: int) -> None:
    model = helper.make_model(
        helper.make_graph([], "g", [], [], [helper.make_tensor("c", kind, [2], [5, -6])])
    )
    assert Graph(model.SerializeToString()).constant("c") == ("5", "-6")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x3a\x05abc", id="ends-within-a-field"),
        pytest.param(b"\x80" * 11, id="a-number-that-does-not-end"),
        pytest.param(b"\x80", id="ends-within-a-number"),
        pytest.param(b"\x0b", id="a-wire-type-of-old"),
        pytest.param(b"\x38\x01", id="a-number-for-the-graph"),
        pytest.param(b"\x3a" + b"\xff" * 9 + b"\x7f" + b"a", id="longer-than-all-memory"),
    ],
)
def test_what_is_no_onnx_file_is_refused(data: bytes) -> None:
    with pytest.raises(ArtefactError, match="not an ONNX file"):
        Graph(data)


@given(st.binary(max_size=200))
@example(b"\x3a\x02\x0a\x00")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        graph = Graph(data)
        node = graph.producer("y")
        if node is not None:
            node.values(("classes",))
        graph.constant("c")
    except ArtefactError:
        pass


@given(st.data())
def test_a_damaged_model_is_read_or_refused(data: st.DataObject) -> None:
    sound = bytearray(classifier(classes=["a", "b"]))
    place = data.draw(st.integers(0, len(sound) - 1))
    sound[place] = data.draw(st.integers(0, 255))
    try:
        graph = Graph(bytes(sound))
        node = graph.producer("y")
        assert node is None or isinstance(node.values(("classes",)), tuple)
    except ArtefactError:
        pass
