"""Models that nobody should have to run: small real ONNX files, each with one thing wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.builders import LABELS
from tests.onnx_models import FLOAT, INT32, INT64, onnx_file

SIZE = len(LABELS)


def of_nodes(
    nodes: Sequence[onnx.NodeProto], constants: Mapping[str, NDArray[Any]] | None = None
) -> bytes:
    """Returns a model from ``x`` to ``y``, both float32 [N, 3]."""
    return onnx_file(nodes, [("x", FLOAT, ["N", SIZE])], [("y", FLOAT, ["N", SIZE])], constants)


def memory_eater() -> bytes:
    """Returns a small file whose run wants 6 GB."""
    return of_nodes(
        [
            helper.make_node("ConstantOfShape", ["size"], ["huge"]),
            helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
            helper.make_node("Add", ["x", "most"], ["y"]),
        ],
        {"size": np.array([1_600_000_000], np.int64)},
    )


def endless() -> bytes:
    """Returns a model that counts to 2^62 before it answers."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", FLOAT, ["N", SIZE]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", FLOAT, ["N", SIZE]),
        ],
    )
    loop = helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body)
    return of_nodes([loop], {"turns": np.array(2**62, np.int64)})


def crashes_on_x86() -> bytes:
    """Returns a model that divides the least integer by -1: a signal on x86, at any input."""
    return of_nodes(
        [
            helper.make_node("Cast", ["x"], ["whole"], to=INT32),
            helper.make_node("Mul", ["whole", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "minus_one"], ["divisor"]),
            helper.make_node("Div", ["least", "divisor"], ["quotient"]),
            helper.make_node("Cast", ["quotient"], ["y"], to=FLOAT),
        ],
        {
            "zero": np.array([0], np.int32),
            "minus_one": np.array([-1], np.int32),
            "least": np.array([-(2**31)], np.int32),
        },
    )


def fails_at_ones() -> bytes:
    """Returns a model that loads and answers zeros, and fails at any golden input."""
    return of_nodes(
        [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["place"], to=INT64),
            helper.make_node("Gather", ["table", "place"], ["found"]),
            helper.make_node("Add", ["x", "found"], ["y"]),
        ],
        {"table": np.array([0.0], np.float32)},
    )


def nan_at_ones() -> bytes:
    """Returns a model that answers NaN to every input but zeros."""
    return of_nodes(
        [
            helper.make_node("Neg", ["x"], ["below"]),
            helper.make_node("Sqrt", ["below"], ["y"]),
        ]
    )


def with_operator(op_type: str, domain: str) -> bytes:
    """Returns a model of one operator."""
    return of_nodes([helper.make_node(op_type, ["x"], ["y"], domain=domain)])


def importing(domain: str) -> bytes:
    """Returns a sound model that imports operators that it does not use."""
    model = onnx.load_from_string(of_nodes([helper.make_node("Identity", ["x"], ["y"])]))
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return bytes(model.SerializeToString())


def external_tensor(name: str = "w", location: str = "/etc/passwd") -> onnx.TensorProto:
    """Returns a tensor whose numbers lie in another file."""
    tensor = onnx.TensorProto(name=name, data_type=FLOAT, dims=[SIZE])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def adding(tensor: onnx.TensorProto) -> onnx.ModelProto:
    """Returns a model that adds an initializer to its input."""
    model = onnx.load_from_string(of_nodes([helper.make_node("Add", ["x", tensor.name], ["y"])]))
    model.graph.initializer.append(tensor)
    return model


def nested(levels: int) -> bytes:
    """Returns a model whose graphs lie so deep in one another."""
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [], [])
    for _ in range(levels):
        branch = helper.make_node("If", ["yes"], ["y"], then_branch=graph)
        graph = helper.make_graph([branch], "g", [], [])
    return bytes(helper.make_model(graph).SerializeToString())
