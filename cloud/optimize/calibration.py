"""Takes the range of every value in a model from calibration inputs, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import (
    CalibrationDataReader,
    EntropyCalibrater,
    MinMaxCalibrater,
    PercentileCalibrater,
)

from cloud.optimize.recipes import Ranges
from cloud.optimize.session import NONE, open_session
from shared.model_feed import Feed

STRIDE_ROWS = 32
PERCENTILE = 99.99
"""So much of an activation's values lies within its range; the library's own is 99.999."""

CALIBRATORS: Mapping[Ranges, tuple[type[Any], Mapping[str, Any]]] = {
    "minmax": (MinMaxCalibrater, {}),
    "percentile": (PercentileCalibrater, {"percentile": PERCENTILE}),
    "entropy": (EntropyCalibrater, {}),
}


class _Stride(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    """One feed, as the library's interface wants it."""

    def __init__(self, feed: Mapping[str, NDArray[Any]]) -> None:
        self._feeds = iter([feed])

    def get_next(self) -> Mapping[str, NDArray[Any]] | None:
        return next(self._feeds, None)


def find_ranges(path: Path, method: Ranges, feed: Feed, rows: NDArray[Any]) -> Any:
    """Returns the range of every float32 value of a model, as the library's quantizer wants them.

    The library keeps every value of all that it is given at once: so it is given a stride at a
    time, and sums up before the next one.

    Args:
        path: the model, with shapes.
        method: how a range is found.
        feed: brings rows to the model's inputs.
        rows: the calibration inputs, [N, *shape].
    """
    kind, options = CALIBRATORS[method]
    with tempfile.TemporaryDirectory(prefix="calibration-", dir=path.parent) as folder:
        augmented = Path(folder, "augmented.onnx")
        calibrator = kind(path, augmented_model_path=str(augmented), **options)
        calibrator.augment_graph()
        calibrator.infer_session = open_session(augmented, NONE)
        for stride in strides(rows, feed.batch_size):
            calibrator.collect_data(_Stride(feed(stride)))
        return calibrator.compute_data()


def strides(rows: NDArray[Any], batch_size: int | None) -> Iterator[NDArray[Any]]:
    """Yields rows in strides; where a model takes batches of one size, the last begins anew.

    Args:
        rows: the calibration inputs, [N, *shape].
        batch_size: the only one that the model takes; None where any does.
    """
    size = batch_size or STRIDE_ROWS
    for start in range(0, len(rows), size):
        stride = rows[start : start + size]
        if batch_size is not None and len(stride) < size:
            stride = rows[np.arange(start, start + size) % len(rows)]
        yield stride
