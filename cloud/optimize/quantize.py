"""Makes one candidate of a model."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QDQQuantizer,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from cloud.optimize.calibration import strides
from cloud.optimize.compaction import compact
from cloud.optimize.graph import head, layers, tail
from cloud.optimize.preparation import MARK, opsets
from cloud.optimize.recipes import Bits, Ranges, Recipe
from cloud.optimize.surgery import pool_before_relu, unround_outputs
from cloud.optimize.weights import store_weights
from shared.errors import ArtefactError
from shared.scores import Floats

TYPES: Mapping[Bits, Any] = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}

STATIC_OPERATORS = (
    "Conv", "Gemm", "MatMul", "Add", "Relu", "Clip", "LeakyRelu", "MaxPool", "AveragePool",
    "GlobalAveragePool", "Concat", "Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""The layers, and what lies between two of them. What ends a classifier (Softmax, Sigmoid) does
not: in 8 bits it would round the scores that a threshold is held against."""

FindRanges = Callable[[Ranges], Any]


class NotApplicableError(ArtefactError):
    """A recipe that would make nothing of its own of this model."""


def make(recipe: Recipe, prepared: onnx.ModelProto, ranges: FindRanges) -> bytes:
    """Returns a candidate as one ONNX file.

    Args:
        recipe: how it is made; not ``source``.
        prepared: the float32 model, from ``prepare``; is left as it is.
        ranges: returns the ranges of its values.

    Raises:
        NotApplicableError: there is nothing for the recipe to do.
        ArtefactError: it asks for another version of the operators than the model.
        Exception: whatever the library raises at a model that it cannot quantize.
    """
    model = copy.deepcopy(prepared)
    match recipe.kind:
        case "weights":
            if not store_weights(model, per_channel=recipe.per_channel):
                raise NotApplicableError("the model holds no matrix of float32")
        case "static":
            model = _static(recipe, model, ranges)
        case _:
            model = _dynamic(recipe, model)
    return _finished(model, prepared)


def _static(recipe: Recipe, model: onnx.ModelProto, ranges: FindRanges) -> onnx.ModelProto:
    excluded = _excluded(recipe, model)
    quantizer = QDQQuantizer(
        model,
        recipe.per_channel,
        recipe.reduce_range,
        TYPES[recipe.weights],
        TYPES[recipe.activations],
        ranges(recipe.ranges),
        [],
        excluded,
        STATIC_OPERATORS,
        {},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # it appends what it adds
    quantized: onnx.ModelProto = quantizer.model.model
    unround_outputs(quantized)
    return quantized


def _excluded(recipe: Recipe, model: onnx.ModelProto) -> list[str]:
    """Returns the names of the nodes that stay float32; moves what has to be moved for that."""
    if not layers(model):
        raise NotApplicableError("the model has no layer that multiplies with a matrix")
    kept = []
    if recipe.float_head:
        kept += head(model)
        if not kept:
            raise NotApplicableError("its first layer is no convolution, or the only layer")
        names = [node.name for node in kept]
        pool_before_relu(model, kept)
        return names
    if recipe.float_tail:
        kept += tail(model)
        if not kept:
            raise NotApplicableError("it has one layer, which is the last one")
    return [node.name for node in kept]


def _dynamic(recipe: Recipe, model: onnx.ModelProto) -> onnx.ModelProto:
    if not layers(model):
        raise NotApplicableError("the model has no layer that multiplies with a matrix")
    with tempfile.TemporaryDirectory(prefix="escalon-quantize-") as folder:
        target = Path(folder, "dynamic.onnx")
        quantize_dynamic(model, target, weight_type=TYPES[recipe.weights])
        return onnx.load(target, load_external_data=False)


def _finished(model: onnx.ModelProto, prepared: onnx.ModelProto) -> bytes:
    """Returns the file of a model: as small as it can be, as portable as it was."""
    compact(model)
    model.ir_version = prepared.ir_version
    _restore_metadata(model, prepared)
    before, after = opsets(prepared).get("", 0), opsets(model).get("", 0)
    if after > before:
        raise ArtefactError(f"it asks for operators of version {after}, the model for {before}")
    return bytes(model.SerializeToString())


def _restore_metadata(model: onnx.ModelProto, prepared: onnx.ModelProto) -> None:
    """Keeps what the model brought, such as its labels, and nothing of what the library adds."""
    del model.metadata_props[:]
    model.metadata_props.extend(each for each in prepared.metadata_props if each.key != MARK[0])


class _Strides(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    """Feeds the calibration inputs a stride at a time: it keeps all values of what it is given."""

    def __init__(self, name: str, inputs: Floats) -> None:
        self._feeds = [{name: stride} for stride in strides(inputs, None)]
        self._places = iter(range(0))

    def __len__(self) -> int:
        return len(self._feeds)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Has the library sum up behind these strides."""
        self._places = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, Any] | None:
        """Returns the next feed, as the library's interface wants it."""
        place = next(self._places, None)
        return None if place is None else self._feeds[place]


def quantize_int8(model: bytes, calibration: Floats) -> bytes:
    """Returns the model with 8-bit weights and activations: static ranges, QDQ.

    Static, because dynamic quantization takes its range from the whole batch: there a sample's
    answer depends on its neighbours (by up to 0.08 in a logit of the demo's model).

    Args:
        model: a float32 ONNX file of one input.
        calibration: float32 [N, ...], inputs that span what the node will see.
    """
    proto = onnx.load_model_from_string(model)
    with tempfile.TemporaryDirectory(prefix="escalon-quantize-") as folder:
        source, target = Path(folder, "f.onnx"), Path(folder, "q.onnx")
        source.write_bytes(_marked(proto))
        quantize_static(
            source,
            target,
            _Strides(proto.graph.input[0].name, calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"CalibStridedMinMax": 1},
        )
        return _without_metadata(target.read_bytes())


def _marked(model: onnx.ModelProto) -> bytes:
    key, value = MARK
    model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString())


def _without_metadata(model: bytes) -> bytes:
    proto = onnx.load_model_from_string(model)
    del proto.metadata_props[:]
    return bytes(proto.SerializeToString())
