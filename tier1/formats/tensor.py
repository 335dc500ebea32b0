"""One part of a message: which lists, arrays and bytes it may be, and what they come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import PayloadError
from tier1.formats.arrays import LARGEST_BYTE, cast, from_blob
from tier1.formats.layout import Numbers, Part

BYTE = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_BYTE)]
MAX_DEPTH = 9
"""Deeper than any input's shape in a pack."""


class Tensor:
    """The numbers of one part, of one sample or of a pack.

    Args:
        part: the part.
        dtype: the input's: float32 or uint8.
        wire_dtype: of the numbers that come as bytes.
        max_samples: of a pack; None where a message is one sample.

    Attributes:
        part: the part.
        types: what msgspec decodes lists to, by how deep they are nested.
    """

    def __init__(
        self,
        part: Part,
        dtype: np.dtype[Any],
        wire_dtype: np.dtype[Any],
        max_samples: int | None,
    ) -> None:
        self.part = part
        self.is_pack = max_samples is not None
        self._dtype = dtype
        self._wire_dtype = wire_dtype
        self._size = part.size
        self._max_samples = max_samples or 1
        element: Any = BYTE if dtype == np.uint8 else float
        self.types = _types(part.shape, element, max_samples)

    @property
    def is_flat(self) -> bool:
        """Whether it can only be one flat list of floats."""
        return len(self.part.shape) == 1 and not self.is_pack and self._dtype != np.uint8

    @property
    def expected(self) -> str:
        """What stands at the part's path, in words."""
        number = "whole number 0 to 255" if self._dtype == np.uint8 else "number"
        if not self.part.shape:
            words = number
        else:
            words = f"[{self._size} {number.replace('number', 'numbers')}"
            shape = "x".join(map(str, self.part.shape))
            words += f", flat or nested as {shape}]" if len(self.part.shape) > 1 else "]"
        return f"[1 to {self._max_samples} of {words}]" if self.is_pack else words

    def from_lists(self, lists: Any, depth: int) -> Numbers:
        """Returns the numbers of lists.

        Args:
            lists: of ``types[depth]``.
            depth: how deep they are nested.

        Raises:
            PayloadError: not as many numbers as a sample has.
        """
        numbers: list[float] = lists if depth else [lists]
        for _ in range(depth - 1):
            numbers = list(chain.from_iterable(numbers))  # type: ignore[arg-type]
        if not self.is_pack and len(numbers) != self._size:
            raise self._wrong_length(len(numbers))
        return numbers

    def from_array(self, array: NDArray[Any]) -> Numbers:
        """Returns the numbers of an array.

        Args:
            array: of an integer or floating type; flat, or of the part's shape, in a pack with the
                samples as first dimension.

        Raises:
            PayloadError: another shape, or numbers that the input does not take.
        """
        shape = array.shape[1:] if self.is_pack else array.shape
        if not self.part.shape and not self.is_pack:
            raise PayloadError("wrong_fields", f"{self.part.path} is an array, not one number")
        if array.ndim != 1 and shape not in {self.part.shape, (self._size,)}:
            problem = f"{self.part.path} has the shape {array.shape}"
            raise PayloadError("wrong_length", problem)
        self._check_count(array.size)
        return cast(array.reshape(-1), self._dtype)

    def from_blob(self, blob: bytes) -> Numbers:
        """Returns the numbers in bytes.

        Raises:
            PayloadError: not as many numbers as a sample has, or as a pack may have.
        """
        return self.from_array(from_blob(blob, self._wire_dtype))

    def from_rows(self, rows: Sequence[bytes | NDArray[Any]]) -> Numbers:
        """Returns the numbers of a pack whose samples come as bytes or arrays, one by one.

        Raises:
            PayloadError: a sample has not as many numbers as it should, or there are too many.
        """
        if not self.is_pack:
            raise PayloadError("wrong_fields", f"{self.part.path} is a list of arrays")
        self._check_count(len(rows) * self._size)
        arrays = [
            from_blob(row, self._wire_dtype) if isinstance(row, bytes) else row.reshape(-1)
            for row in rows
        ]
        odd = next((array.size for array in arrays if array.size != self._size), None)
        if odd is not None:
            raise self._wrong_length(odd)
        return np.concatenate([cast(array, self._dtype) for array in arrays])

    def check_depth(self, depth: int) -> None:
        """Refuses lists that are not to be nested so deep.

        Raises:
            PayloadError: they are not in ``types``.
        """
        if depth not in self.types:
            accepted = " or ".join(map(str, self.types))
            problem = f"{self.part.path} is nested {depth} deep, not {accepted}"
            raise PayloadError("wrong_fields", problem)

    def _check_count(self, numbers: int) -> None:
        samples, rest = divmod(numbers, self._size)
        if rest or (not self.is_pack and samples != 1):
            raise self._wrong_length(numbers)
        if not 1 <= samples <= self._max_samples:
            problem = f"{samples} samples, not 1 to {self._max_samples}"
            raise PayloadError("wrong_length", problem)

    def _wrong_length(self, numbers: int) -> PayloadError:
        of_samples = " for each sample" if self.is_pack else ""
        problem = f"{numbers} numbers in {self.part.path}, not {self._size}{of_samples}"
        return PayloadError("wrong_length", problem)


def _types(shape: tuple[int, ...], element: Any, max_samples: int | None) -> dict[int, Any]:
    """Returns the types of lists that hold a sample, or a pack, by how deep they are nested."""
    types: dict[int, Any] = {0: element}
    if shape:
        # A sample's flat list is counted afterwards, which says how many numbers there are.
        flat = list[element] if max_samples is None else _nested(element, (math.prod(shape),))
        types = {len(shape): _nested(element, shape), 1: flat}
    if max_samples is None:
        return types
    return {depth + 1: _list_of(each, 1, max_samples) for depth, each in types.items()}


def _nested(element: Any, shape: tuple[int, ...]) -> Any:
    kind = element
    for length in reversed(shape):
        kind = _list_of(kind, length, length)
    return kind


def _list_of(kind: Any, at_least: int, at_most: int) -> Any:
    return Annotated[list[kind], msgspec.Meta(min_length=at_least, max_length=at_most)]
