"""Reads samples of anyone's model from an npz file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.optimize.optimizer import Samples
from shared.errors import EscalonError
from shared.inputs import Inputs, InputSpec
from shared.npz import read_npz

LABELS = "y"
FEWEST = 8


class DataError(EscalonError):
    """Samples that a model cannot be calibrated and tested on."""


def read_samples(path: Path, seed: int) -> tuple[Samples, Inputs]:
    """Returns the samples of a file, halved at random, and how a row of them is laid out.

    Args:
        path: npz of one array for each input, [N, *shape], and perhaps ``y``, int [N].
        seed: decides which half calibrates.

    Raises:
        StorageError: the file cannot be read, or is too large.
        DataError: what it holds are no samples.
    """
    arrays = read_npz(path)
    labels = arrays.pop(LABELS, None)
    if not arrays:
        raise DataError(f"{path}: it has no samples. Fix: an array `x`, one row a sample")
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    count = next(iter(counts.values()))
    if len(set(counts.values())) > 1:
        raise DataError(f"{path}: its arrays have different numbers of rows: {counts}")
    if count < FEWEST:
        raise DataError(f"{path}: {count} samples are too few, {FEWEST} are the least")
    inputs = _layout(path, arrays)
    rows = _rows(arrays, inputs)
    order = np.random.default_rng(seed).permutation(count)
    taught, tested = np.array_split(order, 2)
    right = None if labels is None else _labels(path, labels, count)[tested]
    return Samples(rows[taught], rows[tested], right), inputs


def _layout(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Inputs:
    """Returns the layout: an only input may have any name, several go by theirs."""
    specs = []
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub" or array.ndim < 2 or not array[0].size:
            raise DataError(
                f"{path}: `{name}` is {array.dtype} of shape {list(array.shape)}, it must hold "
                "numbers of shape [samples, numbers of one, …]"
            )
        specs.append(
            InputSpec(
                tuple(array.shape[1:]),
                name if len(arrays) > 1 else None,
                "uint8" if array.dtype == np.uint8 else "float32",
            )
        )
    return Inputs(specs)


def _rows(arrays: Mapping[str, NDArray[Any]], inputs: Inputs) -> NDArray[Any]:
    parts = [array.astype(inputs.dtype, copy=False) for array in arrays.values()]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _labels(path: Path, labels: NDArray[Any], count: int) -> NDArray[np.int64]:
    whole = labels.dtype.kind in "iu" or (
        labels.dtype.kind == "f" and np.array_equal(labels, np.rint(labels))
    )
    if labels.shape != (count,) or not whole:
        raise DataError(
            f"{path}: `{LABELS}` is {labels.dtype} of shape {list(labels.shape)}, it must hold "
            f"{count} whole numbers: which score of the model is to be the highest"
        )
    return labels.astype(np.int64)
