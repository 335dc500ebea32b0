"""What is changed in a graph leaves its answers as they were."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from cloud.optimize.compaction import compact
from cloud.optimize.graph import head, is_quantized, layers, name_nodes, tail
from cloud.optimize.surgery import pool_before_relu, unround_outputs
from cloud.optimize.weights import LEAST_NUMBERS, rounded, store_weights
from shared.releases.structure import check_structure
from tests.onnx_models import FLOAT, PortSpec, onnx_file
from tests.small_nets import answers_of, digits_cnn, digits_perceptron


def model_of(data: bytes) -> onnx.ModelProto:
    model = onnx.load_model_from_string(data)
    name_nodes(model)
    return model


def kinds(nodes: list[NodeProto]) -> list[str]:
    return [node.op_type for node in nodes]


CNN = digits_cnn().model
IMAGES = digits_cnn().test[:40]


# Where what stands


def test_the_head_of_a_convolutional_network_reaches_to_its_pool() -> None:
    assert kinds(head(model_of(CNN))) == ["Conv", "Relu", "MaxPool"]


def test_a_normalisation_before_the_first_convolution_belongs_to_the_head() -> None:
    model = model_of(CNN)
    model.graph.node[0].input[0] = "scaled"
    model.graph.node.insert(0, helper.make_node("Mul", ["x", "half"], ["scaled"], "mul"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    assert kinds(head(model)) == ["Mul", "Conv", "Relu", "MaxPool"]


def test_a_perceptron_has_no_head_as_it_would_be_most_of_the_model() -> None:
    assert head(model_of(digits_perceptron().model)) == []


def test_the_tail_is_the_last_layer_and_what_comes_behind_it() -> None:
    model = model_of(CNN)
    model.graph.node[-1].output[0] = "sums"
    model.graph.node.append(helper.make_node("Softmax", ["sums"], ["logits"], "softmax"))
    assert kinds(tail(model)) == ["Gemm", "Softmax"]
    assert kinds(layers(model)) == ["Conv", "Conv", "Gemm", "Gemm"]


def test_a_model_of_one_layer_has_neither_head_nor_tail() -> None:
    model = model_of(CNN)
    del model.graph.node[3:]
    assert kinds(layers(model)) == ["Conv"]
    assert head(model) == tail(model) == []


# A pool before a ReLU


def test_a_pool_before_its_relu_answers_the_same() -> None:
    model = model_of(CNN)
    pool_before_relu(model, head(model))
    assert kinds(list(model.graph.node))[:6] == [
        "Conv", "MaxPool", "Relu", "Conv", "Relu", "MaxPool",
    ]  # fmt: skip
    onnx.checker.check_model(model, full_check=True)
    assert_array_equal(answers_of(model.SerializeToString(), IMAGES), answers_of(CNN, IMAGES))


def test_a_relu_whose_values_others_want_stays_where_it_is() -> None:
    model = model_of(CNN)
    (value,) = model.graph.node[1].output
    model.graph.output.append(helper.make_tensor_value_info(value, FLOAT, ["N", 6, 8, 8]))
    before = model.SerializeToString()
    pool_before_relu(model, head(model))
    assert model.SerializeToString() == before


# Outputs that are not rounded


PORTS: tuple[list[PortSpec], list[PortSpec]] = [("x", FLOAT, ["N", 3])], [("y", FLOAT, ["N", 3])]


def rounding(value: str, result: str) -> list[NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [value, "s", "z"], [f"{value}q"]),
        helper.make_node("DequantizeLinear", [f"{value}q", "s", "z"], [result]),
    ]


def rounded_model(*nodes: NodeProto) -> onnx.ModelProto:
    constants: dict[str, NDArray[Any]] = {
        "s": np.array(0.5, np.float32),
        "z": np.array(0, np.int8),
    }
    return onnx.load_model_from_string(onnx_file(nodes, *PORTS, constants))


ROWS = np.array([[0.1, 0.7, -0.3]], np.float32)


def test_the_rounding_of_an_output_goes_and_another_stays() -> None:
    model = rounded_model(
        *rounding("x", "a"), helper.make_node("Neg", ["a"], ["b"]), *rounding("b", "y")
    )
    unround_outputs(model)
    assert kinds(list(model.graph.node)) == ["QuantizeLinear", "DequantizeLinear", "Neg"]
    assert_allclose(answers_of(model.SerializeToString(), ROWS), [[0.0, -0.5, 0.5]])


def test_the_rounding_of_an_input_that_is_the_output_stays() -> None:
    model = rounded_model(*rounding("x", "y"))
    unround_outputs(model)
    assert len(model.graph.node) == 2


# What only people read


def test_a_compact_model_answers_the_same_with_the_same_ports() -> None:
    model = model_of(CNN)
    for node in model.graph.node:
        node.doc_string = "made by a long-winded exporter"
    compact(model)
    small = model.SerializeToString()
    assert len(small) < len(CNN)
    assert [port.name for port in (*model.graph.input, *model.graph.output)] == ["x", "logits"]
    onnx.checker.check_model(model, full_check=True)
    assert_array_equal(answers_of(small, IMAGES), answers_of(CNN, IMAGES))


def test_a_constant_that_is_there_twice_is_kept_once() -> None:
    model = model_of(CNN)
    twin = copy.deepcopy(model.graph.initializer[0])
    twin.name = "twin"
    model.graph.initializer.append(twin)
    model.graph.node[0].input[1] = "twin"
    compact(model)
    assert len(model.graph.initializer) == len(model_of(CNN).graph.initializer)
    assert_array_equal(answers_of(model.SerializeToString(), IMAGES), answers_of(CNN, IMAGES))


def test_names_that_a_subgraph_may_use_stay() -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["outer"], ["inner"])],
        "branch", [], [helper.make_tensor_value_info("inner", FLOAT, ["N", 3])],
    )  # fmt: skip
    nodes = [
        helper.make_node("Abs", ["x"], ["outer"]),
        helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
    ]
    data = onnx_file(nodes, *PORTS, {"yes": np.array(True)})
    model = onnx.load_model_from_string(data)
    compact(model)
    assert_array_equal(answers_of(model.SerializeToString(), ROWS), -np.abs(ROWS))


def test_domains_that_no_operator_is_of_are_dropped() -> None:
    model = model_of(CNN)
    model.opset_import.append(helper.make_opsetid("com.microsoft.nchwc", 1))
    compact(model)
    check_structure(model.SerializeToString())


# Weights in 8 bits


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_rounding_is_off_by_half_a_level_at_most(axis: int | None) -> None:
    numbers = np.random.default_rng(1).normal(0, 1, (7, 5)).astype(np.float32)
    numbers[:, 2] = 0.0
    levels, scale = rounded(numbers, axis)
    assert levels.dtype == np.int8
    assert np.abs(levels).max() == 127
    assert (np.abs(levels * scale - numbers) <= scale / 2 * 1.0001).all()


@pytest.mark.parametrize("per_channel", [False, True], ids=["one-scale", "a-scale-each"])
def test_a_model_of_stored_weights_is_small_and_runs_the_operators_of_float32(
    per_channel: bool, tmp_path: Any
) -> None:
    model = model_of(CNN)
    stored = store_weights(model, per_channel=per_channel)
    compact(model)
    data = model.SerializeToString()
    assert stored == 3  # the last and the first are too small to gain
    assert len(data) < 0.35 * len(CNN)
    assert not is_quantized(model.graph)
    assert run_operators(data) == run_operators(CNN)
    difference = np.abs(answers_of(data, IMAGES) - answers_of(CNN, IMAGES)).max()
    assert 0 < difference < 0.05 * np.ptp(answers_of(CNN, IMAGES))


def run_operators(data: bytes) -> list[str]:
    """Returns the operators that ONNX Runtime is left with when it has loaded a model."""
    import tempfile
    from pathlib import Path

    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(Path(folder, "left.onnx"))
        options.log_severity_level = 3
        ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return kinds(list(onnx.load(options.optimized_model_filepath).graph.node))


def matrix_model(op_type: str, weights: NDArray[Any], **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node(op_type, ["x", "w"], ["y"], **attributes)
    columns = weights.shape[0] if attributes.get("transB") else weights.shape[1]
    rows = weights.shape[1] if attributes.get("transB") else weights.shape[0]
    ports = [("x", FLOAT, ["N", rows])], [("y", FLOAT, ["N", columns])]
    return onnx.load_model_from_string(onnx_file([node], *ports, {"w": weights}))


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [("MatMul", {}), ("Gemm", {}), ("Gemm", {"transB": 1})],
    ids=["matmul", "gemm", "gemm-transposed"],
)
def test_each_output_of_a_layer_has_its_scale(op_type: str, attributes: dict[str, int]) -> None:
    """One output's weights are a thousandth of the others'; by one scale they would all be 0."""
    rng = np.random.default_rng(2)
    weights = rng.normal(0, 1, (32, 16)).astype(np.float32)
    weights[:, 3] /= 1000
    given = np.ascontiguousarray(weights.T) if attributes else weights
    model = matrix_model(op_type, given, **attributes)
    rows = rng.normal(0, 1, (20, 32)).astype(np.float32)
    store_weights(model, per_channel=True)
    error = np.abs(answers_of(model.SerializeToString(), rows) - rows @ weights)[:, 3]
    assert error.max() < 0.02 * np.abs(rows @ weights)[:, 3].max()


def test_small_matrices_and_other_types_stay_as_they_are() -> None:
    small = matrix_model("MatMul", np.ones((LEAST_NUMBERS // 16, 15), np.float32))
    assert store_weights(small, per_channel=False) == 0
    double = model_of(CNN)
    for tensor in double.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)
        )
    assert {tensor.data_type for tensor in double.graph.initializer} == {TensorProto.DOUBLE}
    assert store_weights(double, per_channel=False) == 0
