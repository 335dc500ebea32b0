"""What a sample is: one row of numbers, and how a model with one or several inputs takes it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shared.scores import Floats

InputDtype = Literal["float32", "uint8"]
LARGEST_BYTE = 255


@dataclass(frozen=True)
class InputSpec:
    """One input of a model.

    The model is fed ``(x - mean) / scale``, as by scikit-learn's ``StandardScaler``; a scale of 255
    brings the bytes of an image to 0 to 1.

    Attributes:
        shape: of one sample, without the batch.
        name: of the ONNX input; None for the only one.
        dtype: of the numbers as a sensor sends them.
        mean: is subtracted: one number for all, one for each channel (the first dimension, else
            the last), or one for each number of the sample in C order; empty for none.
        scale: divides after that, above 0; as many numbers as ``mean`` may have.
    """

    shape: tuple[int, ...]
    name: str | None = None
    dtype: InputDtype = "float32"
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers a sample brings for it."""
        return math.prod(self.shape)

    @property
    def normalised(self) -> bool:
        """Whether the model is fed other numbers than the sensor sends."""
        return bool(self.mean or self.scale)


class Inputs:
    """All inputs of a model: the layout of a sample's row.

    A row has the shape of the only input. Several inputs share one flat row, in their order.
    Rows are raw wherever they travel; each tier normalises at its own model.

    Args:
        specs: at least one.

    Attributes:
        specs: the inputs.
        sizes: how many numbers each has in a row.
        offsets: where in a flat row each begins.
        shape: of one row.
        size: how many numbers a row has.
        dtype: of a row: uint8 where all inputs are, else float32.
        as_they_are: whether a row is what the model is fed: one input, not normalised.
    """

    def __init__(self, specs: Sequence[InputSpec]) -> None:
        self.specs = tuple(specs)
        self.sizes = tuple(spec.size for spec in self.specs)
        self.offsets = (0, *itertools.accumulate(self.sizes))[:-1]
        self.size = sum(self.sizes)
        self.shape = self.specs[0].shape if len(self.specs) == 1 else (self.size,)
        all_bytes = all(spec.dtype == "uint8" for spec in self.specs)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8 if all_bytes else np.float32)
        self.as_they_are = len(self.specs) == 1 and not self.specs[0].normalised
        self._normalisations = [_Normalisation(spec) for spec in self.specs]

    @classmethod
    def plain(cls, shape: tuple[int, ...]) -> Inputs:
        """Returns the layout of one float32 input that is not normalised."""
        return cls([InputSpec(shape)])

    @property
    def names(self) -> tuple[str | None, ...]:
        """The ONNX inputs' names, in order."""
        return tuple(spec.name for spec in self.specs)

    def parts(self, rows: NDArray[Any]) -> Sequence[NDArray[Any]]:
        """Returns what the model is fed.

        Args:
            rows: of ``dtype``, [N, *shape].

        Returns:
            For each input [N, *its shape]: float32 where it is normalised, else of its own dtype.
        """
        if self.as_they_are:
            return (rows,)
        return [
            normalisation(rows if len(self.specs) == 1 else part)
            for normalisation, part in zip(self._normalisations, self._split(rows), strict=True)
        ]

    def _split(self, rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
        flat = rows.reshape(len(rows), self.size)
        for spec, offset, size in zip(self.specs, self.offsets, self.sizes, strict=True):
            yield flat[:, offset : offset + size].reshape(len(rows), *spec.shape)


class _Normalisation:
    """Brings one input from the sensor's numbers to the model's."""

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._mean = _spread(spec.mean, spec.shape) if spec.mean else None
        self._scale = _spread(spec.scale, spec.shape) if spec.scale else None

    def __call__(self, part: NDArray[Any]) -> NDArray[Any]:
        if not self._spec.normalised:
            return self._raw(part)
        result = part.astype(np.float32)
        with np.errstate(over="ignore"):
            if self._mean is not None:
                result -= self._mean
            if self._scale is not None:
                result /= self._scale
        return result

    def _raw(self, part: NDArray[Any]) -> NDArray[Any]:
        if part.dtype == self._spec.dtype:
            return np.ascontiguousarray(part)
        # Bytes that share a row with floats.
        levels: NDArray[np.uint8] = np.clip(np.rint(part), 0, LARGEST_BYTE).astype(np.uint8)
        return levels


def channel_axis(shape: tuple[int, ...], count: int) -> int | None:
    """Returns the dimension that ``count`` numbers go along: the first, else the last, or None."""
    return next((axis for axis in (0, len(shape) - 1) if shape[axis] == count), None)


def _spread(numbers: tuple[float, ...], shape: tuple[int, ...]) -> Floats:
    """Returns the numbers so that they broadcast over [N, *shape]."""
    array = np.array(numbers, np.float32)
    if len(numbers) == 1:
        return array
    axis = channel_axis(shape, len(numbers))
    if axis is None:
        return array.reshape(shape)
    return array.reshape([-1 if each == axis else 1 for each in range(len(shape))])
