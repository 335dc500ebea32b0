"""One file of a release: what it is, and how it travels."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Literal

from shared.messages import Public

MAX_CHUNK_BYTES = 64 * 2**10
MAX_URL_CHARACTERS = 2048
DIGEST = re.compile(r"[0-9a-f]{64}")
URL = re.compile(r"https?://[!-~]+")
"""Visible ASCII alone: a space or a line break would end the line of the request."""

Precision = Literal["int8", "fp32"]
Encoding = Literal["identity", "zstd"]
Delivery = Literal["retained", "pull"]


class Artefact(Public, frozen=True):
    """One file of a release.

    A chunk's digest is that of the bytes that travel, so they are proved before anything unpacks
    them. Each chunk is packed by itself; one that packing does not make smaller travels as it is,
    which shows in its size.

    Attributes:
        precision: of the weights.
        sha256: digest of the whole file, unpacked, in hex.
        size: of the whole file, unpacked, in bytes.
        chunk_bytes: size of each chunk but the last, unpacked, at most 64 KiB.
        chunks: SHA-256 of each chunk as it travels, in hex.
        encoding: how chunks are packed.
        wire_bytes: size of each chunk as it travels; empty for ``identity``.
        url: where a web server has the chunks as they travel, one after the other; empty for none.
        delivery: whether the broker keeps the chunks, or sends them when a node asks.
    """

    precision: Precision
    sha256: str
    size: int
    chunk_bytes: int
    chunks: tuple[str, ...]
    encoding: Encoding = "identity"
    wire_bytes: tuple[int, ...] = ()
    url: str = ""
    delivery: Delivery = "retained"

    def raw_size(self, index: int) -> int:
        """Returns the size of a chunk, unpacked, in bytes."""
        return min(self.chunk_bytes, self.size - index * self.chunk_bytes)

    def wire_size(self, index: int) -> int:
        """Returns the size of a chunk as it travels, in bytes."""
        return self.wire_bytes[index] if self.wire_bytes else self.raw_size(index)

    def is_packed(self, index: int) -> bool:
        """Whether a chunk travels packed."""
        return self.encoding != "identity" and self.wire_size(index) < self.raw_size(index)

    @property
    def wire_total(self) -> int:
        """Size of all chunks as they travel, in bytes."""
        return sum(self.wire_bytes) if self.wire_bytes else self.size


def problems(artefact: Artefact) -> list[str]:
    """Returns where an artefact contradicts itself, in words; nothing if it does not."""
    size = artefact.chunk_bytes
    chunks = math.ceil(artefact.size / size) if size > 0 else -1
    fits = 0 < chunks == len(artefact.chunks)
    checks: dict[str, Callable[[], bool]] = {
        "a digest is not SHA-256 in hex": lambda: all(
            DIGEST.fullmatch(digest) for digest in (artefact.sha256, *artefact.chunks)
        ),
        "its chunks are larger than 64 KiB": lambda: size <= MAX_CHUNK_BYTES,
        "its size and its chunks do not fit": lambda: fits,
        "the sizes of its chunks on the wire do not fit": lambda: not fits or _wire_fits(artefact),
        "its url is not one of http or https": lambda: (
            not artefact.url
            or (len(artefact.url) <= MAX_URL_CHARACTERS and URL.fullmatch(artefact.url) is not None)
        ),
    }
    return [problem for problem, holds in checks.items() if not holds()]


def _wire_fits(artefact: Artefact) -> bool:
    if artefact.encoding == "identity":
        return not artefact.wire_bytes
    sizes = artefact.wire_bytes
    return len(sizes) == len(artefact.chunks) and all(
        0 < size <= artefact.raw_size(index) for index, size in enumerate(sizes)
    )


def chunks_in_common(
    artefact: Artefact, older: Sequence[Artefact]
) -> dict[int, tuple[Artefact, int]]:
    """Returns where the chunks of an artefact are in older ones: equal digests, equal bytes.

    Args:
        artefact: what is coming.
        older: what is whole on the disk.

    Returns:
        By index, the older artefact and the chunk's index in it.
    """

    def key(each: Artefact, index: int) -> tuple[str, int, bool]:
        return each.chunks[index], each.raw_size(index), each.is_packed(index)

    where = {key(each, index): (each, index) for each in older for index in range(len(each.chunks))}
    found = {index: where.get(key(artefact, index)) for index in range(len(artefact.chunks))}
    return {index: place for index, place in found.items() if place is not None}
