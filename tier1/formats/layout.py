"""Where in a message the numbers of a row are, and how they are put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import PayloadError
from shared.inputs import Inputs
from tier1.formats.config import FeaturePaths, PartPaths
from tier1.formats.decoded import FormatConfigError, Rows

Numbers = list[float] | NDArray[Any]
"""Of one part: a flat list, or a flat array of the input's dtype, sample after sample."""


class Part(NamedTuple):
    """Numbers of a row that stand together in a message.

    Attributes:
        path: where.
        shape: of one sample's numbers; empty for a single number.
    """

    path: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers a sample has there."""
        return math.prod(self.shape)


class Layout:
    """The parts of a pipeline's rows, in order.

    Args:
        features: where they are in a message.
        inputs: what a row is.

    Attributes:
        parts: the parts.
        inputs: what a row is.
        is_bytes: whether the numbers are whole, 0 to 255.

    Raises:
        FormatConfigError: the features do not fit the inputs.
    """

    def __init__(self, features: FeaturePaths, inputs: Inputs) -> None:
        self.inputs = inputs
        self.is_bytes = inputs.dtype == np.uint8
        self.parts = _parts(features, inputs)

    def sample(self, numbers: Sequence[Numbers]) -> Rows:
        """Puts one sample together.

        Args:
            numbers: of each part.
        """
        if all(type(each) is list for each in numbers):
            joined: Numbers = numbers[0] if len(numbers) == 1 else list(chain(*numbers))
            if not self.is_bytes:
                return joined
        else:
            joined = np.concatenate([self._array(each) for each in numbers])
        return self._array(joined).reshape(1, *self.inputs.shape)

    def pack(self, numbers: Sequence[Numbers]) -> NDArray[Any]:
        """Puts the samples of a pack together.

        Args:
            numbers: of each part.

        Raises:
            PayloadError: the parts do not have the same number of samples.
        """
        counts = [len(each) // part.size for each, part in zip(numbers, self.parts, strict=True)]
        if len(set(counts)) > 1:
            odd = next(index for index, count in enumerate(counts) if count != counts[0])
            raise PayloadError(
                "wrong_length",
                f"{counts[0]} samples in {self.parts[0].path}, "
                f"{counts[odd]} in {self.parts[odd].path}",
            )
        columns = [self._array(each).reshape(counts[0], -1) for each in numbers]
        rows = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
        return rows.reshape(counts[0], *self.inputs.shape)

    def _array(self, numbers: Numbers) -> NDArray[Any]:
        if isinstance(numbers, np.ndarray):
            return numbers
        if self.is_bytes:
            return np.frombuffer(bytes(numbers), np.uint8)  # type: ignore[arg-type]
        with np.errstate(over="ignore"):
            return np.array(numbers, np.float32)


def _parts(features: FeaturePaths, inputs: Inputs) -> tuple[Part, ...]:
    if not isinstance(features, dict):
        return _part(features, inputs.shape, "the input takes")
    names = [spec.name for spec in inputs.specs if spec.name is not None]
    if set(features) != set(names):
        raise FormatConfigError(
            f"features are given for {_list(features)}, but the inputs are "
            f"{_list(names) or 'one without a name'}",
            f"write a path for each of {_list(names)}" if names else "write a single path",
        )
    parts = [
        _part(features[spec.name or ""], spec.shape, f"the input {spec.name} takes")
        for spec in inputs.specs
    ]
    return tuple(chain.from_iterable(parts))


def _part(paths: PartPaths, shape: tuple[int, ...], takes: str) -> tuple[Part, ...]:
    if isinstance(paths, str):
        return (Part(paths, shape),)
    size = math.prod(shape)
    if len(paths) != size:
        raise FormatConfigError(
            f"{len(paths)} paths of single numbers, but {takes} {size} numbers",
            "write one path for each number, or the path of a list of them",
        )
    return tuple(Part(path, ()) for path in paths)


def _list(names: Sequence[str] | dict[str, Any]) -> str:
    return ", ".join(names)
