"""Writes a ``Network`` as an ONNX model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cloud.training.network import Conv, Dense, Network

OPSET = 17
IR_VERSION = 8
"""Came with opset 17. The library's default is the newest, which older ONNX Runtimes refuse."""

INPUT = "features"
OUTPUT = "logits"


def to_onnx(network: Network, name: str) -> bytes:
    """Returns a single-file model: ``features`` float32 [N, ...] → ``logits`` [N, labels].

    The input's scale is folded into the first weights: the graph is Conv, Relu, MaxPool, …,
    Flatten, Gemm, Relu, …, Gemm, of which a perceptron has but the last part.

    Args:
        network: the network.
        name: the graph's name.
    """
    graph = _Graph(name, _folded(network))
    model = helper.make_model(
        graph.proto(),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="escalon",
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _folded(network: Network) -> Network:
    """Returns the network with the input's scale in the weights of its first layer."""
    scale = np.float32(network.scale)
    if network.convs:
        conv, *convs = network.convs
        folded = replace(conv, weight=conv.weight * scale)
        return replace(network, scale=1.0, convs=(folded, *convs))
    first, *dense = network.dense
    return replace(network, scale=1.0, dense=(replace(first, weight=first.weight * scale), *dense))


class _Graph:
    """A chain of operations, each on the value of the one before.

    Names are short because a quantized copy of a small model repeats each one several times.
    """

    def __init__(self, name: str, network: Network) -> None:
        self._name = name
        self._network = network
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._value = INPUT

    def proto(self) -> onnx.GraphProto:
        network = self._network
        shape, labels = network.shape, network.dense[-1].weight.shape[1]
        if network.convs and shape != network.planes:
            sizes = np.array([-1, *network.planes], np.int64)
            self._add("Reshape", "x", self._constant("s", sizes))
        for index, conv in enumerate(network.convs):
            self._convolve(index, conv)
        if network.convs or len(shape) > 1:
            self._add("Flatten", "f")
        for index, layer in enumerate(network.dense):
            is_last = index == len(network.dense) - 1
            self._weigh("Gemm", f"{index}", layer, OUTPUT if is_last else "")
            if not is_last:
                self._add("Relu", f"h{index}")
        return helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", *shape])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", labels])],
            self._constants,
        )

    def _convolve(self, index: int, conv: Conv) -> None:
        window = conv.weight.shape[2:]
        margin = [width // 2 for width in window]
        sizes = {"kernel_shape": list(window), "pads": margin * 2}
        self._weigh("Conv", f"c{index}", conv, "", **sizes)
        self._add("Relu", f"r{index}")
        if any(width > 1 for width in conv.pool):
            pool = list(conv.pool)
            self._add("MaxPool", f"p{index}", kernel_shape=pool, strides=pool)

    def _weigh(
        self, operator: str, name: str, layer: Conv | Dense, output: str, **sizes: list[int]
    ) -> None:
        weight, bias = (
            self._constant(f"w{name}", layer.weight),
            self._constant(f"b{name}", layer.bias),
        )
        self._add(operator, output or f"z{name}", weight, bias, **sizes)

    def _add(self, operator: str, output: str, *constants: str, **sizes: Any) -> None:
        inputs = [self._value, *constants]
        name = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name, **sizes))
        self._value = output

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        self._constants.append(numpy_helper.from_array(array, name))
        return name
