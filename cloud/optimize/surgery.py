"""What is changed in a graph around its quantization. What it answers stays as it was."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import NodeProto

from cloud.optimize.graph import replace_nodes, users

MONOTONE = frozenset({"Relu", "Clip"})


def pool_before_relu(model: onnx.ModelProto, within: Sequence[NodeProto]) -> None:
    """Swaps a ReLU and the max-pool behind it: the larger of two numbers stays the larger one.

    Where a quantizer follows a max-pool, ONNX Runtime moves it before the pool, which then takes 8
    bits in a layout for which it has no fast code (on the CPU of docs/adr/0019-recipes.md 1.38 ms
    instead of 0.03). It moves none over a ReLU, and drops the ReLU afterwards, since the range of
    the quantizer ends at 0 as well.

    Args:
        model: is changed.
        within: nodes of it that stay float32; ReLU and pool are both among them.
    """
    nodes = list(model.graph.node)
    takers = users(nodes)
    names = {node.name for node in within}
    outputs = {output.name for output in model.graph.output}
    for relu in [node for node in nodes if node.name in names and node.op_type in MONOTONE]:
        after = takers.get(relu.output[0], [])
        alone = len(after) == 1 and relu.output[0] not in outputs
        if alone and after[0].name in names and _is_plain_pool(after[0]):
            _swap(nodes, relu, after[0])
    replace_nodes(model, nodes)


def _is_plain_pool(node: NodeProto) -> bool:
    return node.op_type == "MaxPool" and len(node.output) == 1


def _swap(nodes: list[NodeProto], relu: NodeProto, pool: NodeProto) -> None:
    pooled = f"{relu.output[0]}_pooled"
    given, answer = relu.input[0], pool.output[0]
    at, behind = (next(i for i, each in enumerate(nodes) if each is node) for node in (relu, pool))
    nodes[at], nodes[behind] = pool, relu
    pool.input[0], pool.output[0] = given, pooled
    relu.input[0], relu.output[0] = pooled, answer


def unround_outputs(model: onnx.ModelProto) -> None:
    """Takes away the rounding of the model's outputs to 8 bits, which nothing gains by.

    Args:
        model: a quantized one in QDQ form; is changed.
    """
    nodes = list(model.graph.node)
    takers = users(nodes)
    makers = {name: node for node in nodes for name in node.output}
    for output in model.graph.output:
        back = _maker(makers, output.name, "DequantizeLinear")
        rounding = back and _maker(makers, back.input[0], "QuantizeLinear")
        maker = rounding and makers.get(rounding.input[0])
        if not back or not rounding or not maker or output.name in takers:
            continue
        exact = rounding.input[0]
        if len(takers[exact]) == len(takers[back.input[0]]) == 1:
            maker.output[:] = [output.name if name == exact else name for name in maker.output]
            nodes = [node for node in nodes if node is not back and node is not rounding]
    replace_nodes(model, nodes)


def _maker(makers: dict[str, NodeProto], name: str, op_type: str) -> NodeProto | None:
    """Returns the node that gives a value, if it is of this kind."""
    node = makers.get(name)
    return node if node is not None and node.op_type == op_type else None
