"""Numbers that come as bytes: their types, and how they become the input's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import PayloadError
from tier1.formats.decoded import FormatConfigError

LARGEST_BYTE = 255


def wire_dtype(name: str | None, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns the type of numbers that come as bytes.

    Args:
        name: numpy's; None for the input's own.
        dtype: the input's: float32 or uint8.

    Returns:
        The type, little-endian.

    Raises:
        FormatConfigError: bytes are asked for, and the type is floating.
    """
    if name is not None and dtype == np.uint8 and np.dtype(name).kind not in "iu":
        raise FormatConfigError(
            f"{name} numbers cannot stand for whole numbers 0 to 255", "write `dtype: uint8`"
        )
    return np.dtype(name or dtype).newbyteorder("<")


def cast(numbers: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Returns numbers in the input's type, as they are where they have it.

    Args:
        numbers: flat, of an integer or floating type.
        dtype: float32 or uint8.

    Returns:
        A flat array; infinite where a number is beyond float32.

    Raises:
        PayloadError: bytes are asked for, and these are none.
    """
    if numbers.dtype == dtype:
        return numbers
    if dtype == np.uint8:
        _check_bytes(numbers)
    # A conversion of a signalling NaN raises the flag of invalid operations.
    with np.errstate(over="ignore", invalid="ignore"):
        return numbers.astype(dtype)


def from_blob(blob: bytes, wire_dtype: np.dtype[Any]) -> NDArray[Any]:
    """Returns the numbers in bytes, read-only, on the same memory.

    Raises:
        PayloadError: not a whole number of them.
    """
    if len(blob) % wire_dtype.itemsize:
        problem = f"{len(blob)} bytes are no whole number of {wire_dtype.name}"
        raise PayloadError("wrong_length", problem)
    return np.frombuffer(blob, wire_dtype)


def _check_bytes(numbers: NDArray[Any]) -> None:
    if numbers.dtype.kind not in "iu":
        problem = f"{numbers.dtype.name} numbers where whole numbers 0 to 255 belong"
        raise PayloadError("wrong_dtype", problem)
    wrong = (numbers < 0) | (numbers > LARGEST_BYTE)
    if wrong.any():
        index = int(np.argmax(wrong))
        raise PayloadError("out_of_range", f"features[{index}] is not 0 to {LARGEST_BYTE}")
