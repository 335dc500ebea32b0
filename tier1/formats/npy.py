"""Samples as NumPy's .npy files (NEP 1, numpy.lib.format)."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
import numpy as np

from shared.errors import PayloadError
from shared.inputs import Inputs
from shared.messages import UNREADABLE
from tier1.formats.arrays import cast
from tier1.formats.config import NpyConfig
from tier1.formats.decoded import Decoded, SizedFormat

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 4096
_LENGTH_BYTES = {b"\1": 2, b"\2": 4, b"\3": 4}
DTYPES = {
    f"{order}{kind}{size}": np.dtype(f"{order}{kind}{size}")
    for kind, sizes in (("f", (2, 4, 8)), ("i", (1, 2, 4, 8)), ("u", (1, 2, 4, 8)))
    for size in sizes
    for order in ("<", ">", "|")
    if order != "|" or size == 1
}


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in the file before the numbers.

    Attributes:
        descr: numpy's name of the type, one of ``DTYPES`` if we take it.
        fortran_order: whether the first dimension runs fastest.
        shape: the dimensions.
    """

    descr: str
    fortran_order: bool
    shape: list[Annotated[int, msgspec.Meta(ge=0, lt=2**32)]]


_HEADER = msgspec.json.Decoder(Header)
_TO_JSON = str.maketrans({"'": '"', "(": "[", ")": "]", " ": None, "\n": None})


class NpyFormat(SizedFormat):
    """NumPy's .npy, with numbers of any type, byte order and memory order; never pickle.

    Args:
        config: whether a message is a pack.
        inputs: what a row is.
        max_payload_bytes: larger payloads are refused unread.
    """

    def __init__(self, config: NpyConfig, inputs: Inputs, max_payload_bytes: int) -> None:
        self._inputs = inputs
        self._max_samples = config.pack.max_samples if config.pack else None
        sizes = dict.fromkeys((inputs.shape, (inputs.size,)))
        shapes = " or ".join(_words(shape) for shape in sizes)
        numbers = "whole numbers 0 to 255" if inputs.dtype == np.uint8 else "numbers"
        pack = f", after a dimension of 1 to {self._max_samples} samples" if config.pack else ""
        super().__init__(f"a .npy file with {numbers} of shape {shapes}{pack}", max_payload_bytes)

    def _decoded(self, payload: bytes) -> Decoded:
        header, begin = read_header(payload)
        dtype = DTYPES.get(header.descr)
        if dtype is None:
            raise PayloadError("wrong_dtype", f"{header.descr:.32} is no type of numbers")
        count, held = math.prod(header.shape), len(payload) - begin
        if held != count * dtype.itemsize:
            problem = f"{held} bytes of numbers where the header says {count * dtype.itemsize}"
            raise PayloadError("not_npy", problem)
        samples = self._samples(tuple(header.shape))
        numbers = np.frombuffer(payload, dtype, count, begin)
        if header.fortran_order:
            numbers = numbers.reshape(header.shape[::-1]).T.reshape(-1)
        rows = cast(numbers, self._inputs.dtype)
        return Decoded(rows.reshape(samples, *self._inputs.shape))

    def _samples(self, shape: tuple[int, ...]) -> int:
        """Returns how many samples an array of a shape is."""
        pack, of_sample = ((), shape) if self._max_samples is None else (shape[:1], shape[1:])
        if of_sample not in {self._inputs.shape, (self._inputs.size,)}:
            raise PayloadError("wrong_length", f"the shape is {_words(shape)}")
        samples, limit = (*pack, 1)[0], self._max_samples or 1
        if not 1 <= samples <= limit:
            raise PayloadError("wrong_length", f"{samples} samples, not 1 to {limit}")
        return samples


def read_header(payload: bytes) -> tuple[Header, int]:
    """Returns what a .npy file's header says, and where its numbers begin.

    Raises:
        PayloadError: there is no such header.
    """
    major = payload[len(MAGIC) : len(MAGIC) + 1]
    if not payload.startswith(MAGIC) or major not in _LENGTH_BYTES:
        raise PayloadError("not_npy", "not a .npy file of version 1, 2 or 3")
    length_begin = len(MAGIC) + 2
    begin = length_begin + _LENGTH_BYTES[major]
    end = begin + int.from_bytes(payload[length_begin:begin], "little")
    if not begin < end <= min(len(payload), begin + MAX_HEADER_BYTES):
        raise PayloadError("not_npy", "the .npy header is not whole")
    try:
        text = payload[begin:end].decode("latin-1" if major < b"\3" else "utf-8")
        return _HEADER.decode(_json(text)), end
    except UNREADABLE as error:
        raise PayloadError("not_npy", f"not a .npy header of numbers: {error}") from error


def _json(literal: str) -> str:
    """Returns a header, which is written as a Python literal, as JSON; no code can hide in it."""
    text = literal.translate(_TO_JSON).replace("True", "true").replace("False", "false")
    return text.replace(",]", "]").replace(",}", "}")


def _words(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "no dimension"
