"""ONNX files as users have them, made of one operation or two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shared.inputs import Inputs
from shared.model import Model
from shared.model_spec import Calibration, ModelSpec
from shared.scores import ScoreKind

FLOAT, BYTES, TEXT = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.STRING
DOUBLE, HALF = TensorProto.DOUBLE, TensorProto.FLOAT16
INT8, INT32, INT64 = TensorProto.INT8, TensorProto.INT32, TensorProto.INT64

Shape = Sequence[int | str | None]
PortSpec = tuple[str, int, Shape]


def onnx_file(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[PortSpec],
    outputs: Sequence[PortSpec],
    constants: Mapping[str, NDArray[Any]] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Returns an ONNX file.

    Args:
        nodes: operations.
        inputs: name, element type and shape of each.
        outputs: the same of these.
        constants: by name.
        metadata: its ``metadata_props``.
    """
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*port) for port in inputs],
        [helper.make_tensor_value_info(*port) for port in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    return bytes(model.SerializeToString())


def cast_onnx(element_type: int, shape: Shape, **changes: Any) -> bytes:
    """Returns a model that answers its input, of any element type, as floats.

    Args:
        element_type: of the input.
        shape: of input and output, the batch first.
        changes: other arguments of ``onnx_file``.
    """
    node = helper.make_node("Cast", ["x"], ["y"], to=FLOAT)
    ports = [("x", element_type, shape)], [("y", FLOAT, shape)]
    return onnx_file([node], *ports, **changes)


def load(
    folder: Path,
    data: bytes,
    inputs: Inputs,
    *,
    labels: tuple[str, ...] = ("a", "b", "c"),
    scores: ScoreKind = "logits",
    output: str | None = None,
    batch_size: int = 4,
    calibration: Calibration | None = None,
) -> Model:
    """Returns a model loaded from a file."""
    path = folder / "model.onnx"
    path.write_bytes(data)
    calibration = calibration or Calibration(1.0, 0.5)
    spec = ModelSpec("meter", "1", "0" * 64, labels, scores, calibration, output)
    return Model.load(path, spec, inputs, batch_size)


def rows(*numbers: Sequence[float]) -> NDArray[np.float32]:
    """Returns samples of flat floats."""
    return np.array(numbers, np.float32)
