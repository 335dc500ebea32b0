"""What a file of a release is, as it travels."""

from __future__ import annotations

import math
import re
from typing import Literal

from shared.messages import Public

MAX_CHUNK_BYTES = 64 * 2**10
DIGEST = re.compile(r"[0-9a-f]{64}")


class Artefact(Public, frozen=True):
    """One file of a release.

    Attributes:
        precision: of the weights.
        sha256: digest of the whole file, in hex.
        size: in bytes.
        chunk_bytes: size of each chunk but the last, at most 64 KiB.
        chunks: SHA-256 of each chunk, in hex.
    """

    precision: Literal["int8", "fp32"]
    sha256: str
    size: int
    chunk_bytes: int
    chunks: tuple[str, ...]


def problems(artefact: Artefact) -> list[str]:
    """Returns how an artefact contradicts itself."""
    digests = (artefact.sha256, *artefact.chunks)
    chunks = math.ceil(artefact.size / artefact.chunk_bytes) if artefact.chunk_bytes > 0 else -1
    checks = {
        "a digest is not SHA-256 in hex": all(DIGEST.fullmatch(digest) for digest in digests),
        "its chunks are larger than 64 KiB": artefact.chunk_bytes <= MAX_CHUNK_BYTES,
        "its size and its chunks do not fit": 0 < chunks == len(artefact.chunks),
    }
    return [problem for problem, holds in checks.items() if not holds]
