"""The models that all contestants run: multilayer perceptrons in int8, made on the spot.

Nobody's accuracy is measured here, so the weights are random, from a fixed seed.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

LABELS = ("idle", "walking", "running", "cycling", "driving", "other")
INPUT, OUTPUT = "features", "logits"
SEED = 7
CALIBRATION_SAMPLES = 256


@dataclass(frozen=True)
class Task:
    """A classification task.

    Attributes:
        name: the pipeline's name.
        sizes: numbers in a sample, units of each hidden layer, labels.
    """

    name: str
    sizes: tuple[int, ...]

    @property
    def features(self) -> int:
        """Numbers in a sample."""
        return self.sizes[0]


SMALL = Task("p64", (64, 128, 64, len(LABELS)))
LARGE = Task("p561", (561, 1024, 512, len(LABELS)))


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    """Feeds one batch of inputs, once."""

    def __init__(self, inputs: NDArray[np.float32]) -> None:
        self._feeds = iter([{INPUT: inputs}])

    def get_next(self) -> dict[str, Any] | None:
        """Returns the next feed, as the library's interface wants it."""
        return next(self._feeds, None)


def write_model(task: Task, folder: Path) -> Path:
    """Writes a task's int8 model; returns its path.

    Static ranges in QDQ form, 8-bit weights and activations. Input ``features`` float32
    [N, features], output ``logits`` float32 [N, labels].

    Args:
        task: the task.
        folder: where it goes; exists.
    """
    rng = np.random.default_rng(SEED)
    plain, quantized = folder / f"{task.name}-fp32.onnx", folder / f"{task.name}.onnx"
    plain.write_bytes(_perceptron(task.sizes, rng))
    inputs = rng.standard_normal((CALIBRATION_SAMPLES, task.features)).astype(np.float32)
    # The library advises on the root logger to preprocess, and by that would configure it.
    logging.getLogger().addHandler(logging.NullHandler())
    quantize_static(
        plain,
        quantized,
        _Calibration(inputs),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return quantized


def _perceptron(sizes: tuple[int, ...], rng: np.random.Generator) -> bytes:
    nodes, tensors, value = [], [], INPUT
    for layer, (size, units) in enumerate(itertools.pairwise(sizes)):
        last = layer == len(sizes) - 2
        weights = rng.standard_normal((size, units)) / np.sqrt(size)
        tensors += [
            numpy_helper.from_array(weights.astype(np.float32), f"w{layer}"),
            numpy_helper.from_array(np.zeros(units, np.float32), f"b{layer}"),
        ]
        sums = OUTPUT if last else f"z{layer}"
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [sums]))
        if not last:
            value = f"h{layer}"
            nodes.append(helper.make_node("Relu", [sums], [value]))
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", sizes[0]])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", sizes[-1]])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
