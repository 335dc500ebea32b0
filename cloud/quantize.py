"""Quantizes an ONNX model to int8."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from cloud.export import INPUT
from shared.scores import Floats

PREPROCESSED = ("onnx.quant.pre_process", "onnxruntime.quant")
"""The library's own mark. Without it, it warns on the root logger and by that configures it."""


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    """Feeds the calibration inputs once, as one batch."""

    def __init__(self, inputs: Floats) -> None:
        self._feeds = iter([{INPUT: inputs}])

    def get_next(self) -> dict[str, Any] | None:
        """Returns the next feed, as the library's interface wants it."""
        return next(self._feeds, None)


def quantize_int8(model: bytes, calibration: Floats) -> bytes:
    """Returns the model with 8-bit weights and activations: static ranges, QDQ.

    Static, because dynamic quantization takes its range from the whole batch: there a sample's
    answer depends on its neighbours (by up to 0.08 in a logit of the demo's model).

    Args:
        model: a float32 ONNX file with input ``features``.
        calibration: float32 [N, ...], inputs that span what the node will see.
    """
    with tempfile.TemporaryDirectory(prefix="escalon-quantize-") as folder:
        source, target = Path(folder, "f.onnx"), Path(folder, "q.onnx")
        source.write_bytes(_marked(model))
        quantize_static(
            source,
            target,
            _Batches(calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return _without_metadata(target.read_bytes())


def _marked(model: bytes) -> bytes:
    proto = onnx.load_model_from_string(model)
    key, value = PREPROCESSED
    proto.metadata_props.add(key=key, value=value)
    return bytes(proto.SerializeToString())


def _without_metadata(model: bytes) -> bytes:
    proto = onnx.load_model_from_string(model)
    del proto.metadata_props[:]
    return bytes(proto.SerializeToString())
