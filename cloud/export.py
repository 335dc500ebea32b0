"""Writes an ``Mlp`` as an ONNX model."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from cloud.training import Mlp

OPSET = 17
IR_VERSION = 8
"""Came with opset 17. The library's default is the newest, which older ONNX Runtimes refuse."""

INPUT = "features"
OUTPUT = "logits"


def to_onnx(mlp: Mlp, name: str) -> bytes:
    """Returns a single-file model: ``features`` float32 [N, features] → ``logits`` [N, labels].

    The input's scale is folded into the first weights: the graph is Gemm, Relu, …, Gemm.

    Args:
        mlp: the model.
        name: the graph's name.
    """
    weights = (mlp.weights[0] * mlp.weights[0].dtype.type(mlp.scale), *mlp.weights[1:])
    graph = helper.make_graph(
        _nodes(len(weights)),
        name,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", weights[0].shape[0]])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", weights[-1].shape[1]])],
        [
            numpy_helper.from_array(array, f"{kind}{layer}")
            for layer, pair in enumerate(zip(weights, mlp.biases, strict=True))
            for kind, array in zip("wb", pair, strict=True)
        ],
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="escalon"
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _nodes(layers: int) -> list[onnx.NodeProto]:
    # Names are short because a quantized copy of a small model repeats each one several times.
    nodes, value = [], INPUT
    for layer in range(layers):
        last = layer == layers - 1
        out = OUTPUT if last else f"z{layer}"
        gemm = [value, f"w{layer}", f"b{layer}"]
        nodes.append(helper.make_node("Gemm", gemm, [out], f"g{layer}"))
        if not last:
            value = f"h{layer}"
            nodes.append(helper.make_node("Relu", [out], [value], f"r{layer}"))
    return nodes
