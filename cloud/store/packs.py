"""Inputs in packs: alike ones together, byte by byte, compressed. Pure.

The first bytes of all numbers come first, then the second ones, and so on: what is alike in
float32, sign and exponent, is then side by side, and compresses better (the shuffle of HDF5 and
Blosc). docs/adr/0017-the-store.md has what was measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud.store.records import InputKind, Sample
from shared.errors import StorageError
from shared.messages import DTYPES
from shared.releases.zstd import CompressionParameter, ZstdError, compress, decompress

LEVEL = 3
MAX_PACK_INPUTS = 1024
MAX_PACK_BYTES = 4 * 2**20
"""Before compression. Who wants one input of a pack reads all of it."""

_OPTIONS: dict[int, int] = {
    CompressionParameter.compression_level: LEVEL,
    CompressionParameter.checksum_flag: 1,
}


class LostInputsError(StorageError):
    """The place of the inputs answers, and they are not there, or damaged: for good."""


class Pack(msgspec.Struct, frozen=True):
    """Samples whose inputs are stored together.

    Attributes:
        pipeline: whose they are.
        kind: of the inputs; None where none came.
        samples: the samples, in the order of their places.
        data: the inputs.
    """

    pipeline: str
    kind: InputKind | None
    samples: Sequence[Sample]
    data: bytes | None


def packed(samples: Sequence[Sample]) -> Iterator[Pack]:
    """Puts samples into packs of one pipeline and one kind of input, in their order."""
    groups: dict[tuple[str, InputKind | None], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.row["pipeline"], sample.kind), []).append(sample)
    for (pipeline, kind), group in groups.items():
        size = MAX_PACK_INPUTS
        if kind is not None:
            size = max(1, min(size, MAX_PACK_BYTES // len(group[0].input)))
        for start in range(0, len(group), size):
            part = group[start : start + size]
            data = None if kind is None else press(kind, [each.input for each in part])
            yield Pack(pipeline, kind, part, data)


def press(kind: InputKind, inputs: Sequence[bytes]) -> bytes:
    """Returns N inputs of a kind as a pack."""
    itemsize = DTYPES[kind[0]].itemsize
    numbers = np.frombuffer(b"".join(inputs), np.uint8).reshape(-1, itemsize)
    return compress(numbers.T.tobytes(), options=_OPTIONS)


def unpress(kind: InputKind, count: int, data: bytes) -> NDArray[np.generic]:
    """Returns the inputs of a pack, [count, *shape].

    Raises:
        LostInputsError: it is damaged.
        StorageError: there is no memory for it.
    """
    dtype, shape = DTYPES[kind[0]], kind[1]
    wanted = count * math.prod(shape)
    try:
        raw = decompress(data)
    except ZstdError as error:
        raise LostInputsError(f"a pack of inputs is damaged: {error}") from error
    except MemoryError as error:
        raise StorageError(f"there is no memory for a pack of {count} inputs") from error
    if len(raw) != wanted * dtype.itemsize:
        raise LostInputsError(f"a pack of inputs is damaged: {len(raw)} bytes")
    numbers = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, wanted)
    return numbers.T.copy().view(dtype).reshape(count, *shape)


def shape_text(shape: Sequence[int]) -> str:
    """Returns a shape as it stands in the database."""
    return json.dumps(list(shape), separators=(",", ":"))


def kind_of(dtype: str, shape: str) -> InputKind:
    """Returns the kind of input that a row of the database names."""
    return dtype, tuple(json.loads(shape))
