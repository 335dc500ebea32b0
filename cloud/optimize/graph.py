"""What stands where in an ONNX graph: its layers, the first, the last, and who uses what."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import onnx
from onnx import NodeProto

LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
"""What is quantized; other operators pass 8 bits on, or stay float32."""

QUANTIZED = frozenset(
    {
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger",
        "ConvInteger", "QLinearMatMul", "QLinearConv", "MatMulNBits", "DynamicQuantizeMatMul",
    }
)  # fmt: skip
FOLLOWERS = frozenset({"Relu", "Clip", "LeakyRelu", "BatchNormalization", "MaxPool", "AveragePool"})


def name_nodes(model: onnx.ModelProto) -> None:
    """Gives every node a name of its own: by it the quantizer is told what to leave out."""
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"


def is_quantized(graph: onnx.GraphProto) -> bool:
    """Whether a graph calculates in 8 bits or less, in any of its nodes."""
    return any(node.op_type in QUANTIZED for node in graph.node)


def layers(model: onnx.ModelProto) -> list[NodeProto]:
    """Returns the nodes that multiply with a constant matrix, in order."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in LAYERS and any(name in constants for name in node.input[1:2])
    ]


def head(model: onnx.ModelProto) -> list[NodeProto]:
    """Returns what stands before the first layer, it, and what pools its output.

    Only where that layer is a convolution: the first layer of a perceptron may hold most of the
    weights. ONNX Runtime's 8-bit convolution is slow where few numbers make a sum, as of an image
    of one channel or three.
    """
    found = layers(model)
    if len(found) < 2 or found[0].op_type != "Conv":
        return []
    return [*_before(model, found[0]), found[0], *_following(model, found[0])]


def tail(model: onnx.ModelProto) -> list[NodeProto]:
    """Returns the last layer and what comes behind it; nothing where it is the only one."""
    found = layers(model)
    return [found[-1], *_behind(model, found[-1])] if len(found) > 1 else []


def users(nodes: Sequence[NodeProto]) -> dict[str, list[NodeProto]]:
    """Returns by name of a value which nodes take it."""
    found: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def replace_nodes(model: onnx.ModelProto, nodes: Sequence[NodeProto]) -> None:
    """Makes these, which may be nodes of the model, its nodes."""
    copies = [copy.deepcopy(node) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def all_nodes(graph: onnx.GraphProto) -> Iterator[NodeProto]:
    """Yields the nodes of a graph and of the graphs within it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from all_nodes(inner)


def has_subgraphs(model: onnx.ModelProto) -> bool:
    """Whether a node holds a graph, whose nodes may use names of the graph around it."""
    return len(list(all_nodes(model.graph))) > len(model.graph.node)


def _before(model: onnx.ModelProto, last: NodeProto) -> list[NodeProto]:
    """Returns the nodes that a node depends on."""
    needed, found = set(last.input), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            found.append(node)
    return found


def _behind(model: onnx.ModelProto, first: NodeProto) -> list[NodeProto]:
    """Returns the nodes that depend on a node."""
    given, found = set(first.output), []
    for node in model.graph.node:
        if given.intersection(node.input):
            given.update(node.output)
            found.append(node)
    return found


def _following(model: onnx.ModelProto, layer: NodeProto) -> list[NodeProto]:
    """Returns the activation and the pooling of a layer, as long as nobody else takes a value."""
    takers, found, node = users(model.graph.node), list[NodeProto](), layer
    while len(after := takers.get(node.output[0], [])) == 1 and after[0].op_type in FOLLOWERS:
        (node,) = after
        found.append(node)
    return found
