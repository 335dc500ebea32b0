"""CBOR (RFC 8949) from anybody: plain data and numbers, and nothing else.

The library decodes dates, regular expressions, MIME messages, shared references and much more from
tags. None of it is wanted here: every tag is either one of those below or refused.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import PayloadError
from tier1.formats.arrays import from_blob
from tier1.formats.decoded import FormatConfigError

MAX_DEPTH = 32
LARGEST_EXPONENT = 10_000

Tag = Callable[[Any, bool], Any]


class CborReader:
    """Reads one CBOR data item.

    Raises:
        FormatConfigError: the library is not installed.
    """

    def __init__(self) -> None:
        try:
            self._cbor2 = importlib.import_module("cbor2")
        except ImportError as error:
            raise FormatConfigError(
                "CBOR needs the package cbor2, which is not installed",
                "install it by `pip install 'escalon[cbor]'`",
            ) from error

    def read(self, payload: bytes) -> Any:
        """Returns the item as Python's own types; a typed array as a numpy array.

        Raises:
            PayloadError: not CBOR, or not plain data.
        """
        if not payload:
            raise PayloadError("not_cbor", "the message is empty")
        stream = BytesIO(payload)
        decoder = self._cbor2.CBORDecoder(stream, semantic_decoders=_TAGS, max_depth=MAX_DEPTH)
        try:
            item = decoder.decode()
        except (self._cbor2.CBORDecodeError, ValueError, RecursionError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, PayloadError) else error
            raise PayloadError("not_cbor", f"not CBOR: {cause}") from error
        rest = len(payload) - stream.tell()
        if rest:
            raise PayloadError("not_cbor", f"not CBOR: {rest} bytes after the data item")
        return item


class _Tags(Mapping[int, Tag]):
    """What is done with every tag that there is."""

    def __init__(self, known: Mapping[int, Tag]) -> None:
        self._known = known

    def __getitem__(self, tag: int) -> Tag:
        return self._known.get(tag) or _refusal(tag)

    def __iter__(self) -> Iterator[int]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def _refusal(tag: int) -> Tag:
    def refuse(value: Any, _immutable: bool) -> Any:
        raise PayloadError("not_cbor", f"tag {tag} is not plain data")

    return refuse


def _as_it_is(value: Any, _immutable: bool) -> Any:
    return value


def _decimal(value: Any, _immutable: bool) -> float:
    """Returns a decimal fraction (RFC 8949, section 3.4.4) as a float."""
    if not (isinstance(value, list | tuple) and [type(each) for each in value] == [int, int]):
        raise PayloadError("not_cbor", "a decimal fraction is an exponent and a mantissa")
    exponent, mantissa = value
    return float(f"{mantissa}e{max(-LARGEST_EXPONENT, min(exponent, LARGEST_EXPONENT))}")


def _typed_array(dtype: np.dtype[Any]) -> Tag:
    def array(value: Any, _immutable: bool) -> NDArray[Any]:
        if type(value) is not bytes:
            raise PayloadError("not_cbor", "a typed array holds bytes")
        return from_blob(value, dtype)

    return array


def _shaped(order: str) -> Tag:
    """Returns what reads a multi-dimensional array (RFC 8746, section 3.1)."""

    def array(value: Any, _immutable: bool) -> NDArray[Any]:
        if not (isinstance(value, list | tuple) and len(value) == 2):
            raise PayloadError("not_cbor", "a shaped array is its dimensions and its numbers")
        shape, numbers = value
        if not isinstance(numbers, np.ndarray) or not isinstance(shape, list | tuple):
            raise PayloadError("not_cbor", "a shaped array holds a typed array")
        try:
            return numbers.reshape(shape, order="F" if order == "F" else "C")
        except (ValueError, TypeError, OverflowError) as error:
            raise PayloadError("not_cbor", "the dimensions do not fit the numbers") from error

    return array


def _typed_arrays() -> Iterator[tuple[int, Tag]]:
    """Yields the tags of typed arrays that numpy has types for (RFC 8746, section 2.1)."""
    for tag in range(64, 88):
        is_float, is_signed = tag & 0b10000, tag & 0b01000
        is_little, size_code = tag & 0b00100, tag & 0b00011
        if tag == 76 or (is_float and size_code == 3):  # reserved; 128 bits
            continue
        kind = "f" if is_float else "i" if is_signed else "u"
        size = 2 ** (size_code + 1) if is_float else 2**size_code
        yield tag, _typed_array(np.dtype(f"{'<' if is_little else '>'}{kind}{size}"))


_TAGS = _Tags(
    {
        0: _as_it_is,  # a date as text
        1: _as_it_is,  # seconds since 1970
        4: _decimal,
        40: _shaped("C"),
        1040: _shaped("F"),
        55799: _as_it_is,  # "this is CBOR"
        **dict(_typed_arrays()),
    }
)
