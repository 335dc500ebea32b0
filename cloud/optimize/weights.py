"""Stores a model's weights in 8 bits, and has them unpacked when it is loaded.

``Cast`` and ``Mul`` of constants are calculated once, when ONNX Runtime loads the model (its
constant folding). What runs then are the operators of the float32 model, on rounded weights: no
faster, no slower, the same on every CPU, and a quarter of the file. ``DequantizeLinear`` would not
do: it is kept in the graph, for kernels that take 8 bits, and runs with every batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from cloud.optimize.graph import replace_nodes, users

LEAST_NUMBERS = 256
"""Below that the two operators take more of the file than they save."""

LARGEST = 127


def store_weights(model: onnx.ModelProto, *, per_channel: bool) -> int:
    """Stores every float32 matrix of a model as int8 with a scale, symmetric around 0.

    Args:
        model: is changed.
        per_channel: whether each output of a layer has a scale of its own.

    Returns:
        How many matrices there were.
    """
    graph = model.graph
    takers = users(graph.node)
    ports = {port.name for port in (*graph.input, *graph.output)}
    matrices = [each for each in graph.initializer if _is_matrix(each) and each.name not in ports]
    unpacking: list[NodeProto] = []
    for tensor in matrices:
        numbers = numpy_helper.to_array(tensor)
        axis = _output_axis(takers.get(tensor.name, [])) if per_channel else None
        levels, scale = rounded(numbers, axis)
        packed, cast, factor = (f"{tensor.name}_{part}" for part in ("packed", "cast", "scale"))
        unpacking += [
            helper.make_node("Cast", [packed], [cast], to=TensorProto.FLOAT),
            helper.make_node("Mul", [cast, factor], [tensor.name]),
        ]
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(levels, packed))
        graph.initializer.append(numpy_helper.from_array(scale, factor))
    replace_nodes(model, [*unpacking, *graph.node])
    return len(matrices)


def rounded(
    numbers: NDArray[np.float32], axis: int | None
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rounds to 8 bits, symmetric around 0.

    Args:
        numbers: finite.
        axis: along which each index has a scale of its own; None for one scale.

    Returns:
        int8 of the same shape, -127 to 127, and the scale that they are to be multiplied with,
        which broadcasts over them.
    """
    if axis is None:
        largest: Any = np.abs(numbers).max()
    else:
        others = tuple(each for each in range(numbers.ndim) if each != axis % numbers.ndim)
        largest = np.abs(numbers).max(axis=others, keepdims=True)
    scale = np.asarray(np.where(largest > 0, largest / LARGEST, 1), np.float32)
    levels = np.clip(np.rint(numbers / scale), -LARGEST, LARGEST)
    return levels.astype(np.int8), scale


def _is_matrix(tensor: TensorProto) -> bool:
    return (
        tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) >= 2
        and int(np.prod(tensor.dims)) >= LEAST_NUMBERS
    )


def _output_axis(takers: list[NodeProto]) -> int | None:
    """Returns along which dimension of a matrix a layer's outputs lie; None where it is unknown."""
    if len(takers) != 1:
        return None
    (node,) = takers
    if node.op_type == "Gemm":
        transposed = any(each.name == "transB" and each.i for each in node.attribute)
        return 0 if transposed else 1
    return {"Conv": 0, "MatMul": -1, "ConvTranspose": 1, "Gather": 0}.get(node.op_type)
