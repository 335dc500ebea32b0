"""From a record of telemetry to a row of the store. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from shared.cascade.sizes import (
    MAX_ID_CHARACTERS,
    MAX_TIMESTAMP_CHARACTERS,
    MAX_VERSION_CHARACTERS,
)
from shared.errors import PayloadError
from shared.messages import DTYPES, MAX_DIMENSIONS, TelemetryRecord, Tensor
from shared.scores import SUM_TOLERANCE
from shared.topics import NAME

FLOAT_BYTES = 4
MAX_LABELS = 10_000
MAX_NUMBER = 2**63
INPUT_DTYPES = ("float32", "uint8")
ROW_BYTES = 220
"""What a row takes beside its texts and scores, with its entries in the indexes: measured."""
OFFLINE = "offline"

Row = dict[str, Any]
InputKind = tuple[str, tuple[int, ...]]
"""The dtype and the shape of an input."""


class Sample(NamedTuple):
    """A record that is sound.

    Attributes:
        row: its columns, but for its number, when it came, its margin and where its input is.
        kind: of its input; None if that stayed on the site.
        input: the bytes of its input.
    """

    row: Row
    kind: InputKind | None
    input: bytes


def identity_of(pipeline: str, site: str, sensor: str, sample_id: str) -> int:
    """Returns a number for what people call a sample, from -2**63 to 2**63 - 1.

    64 bits of BLAKE2b: among ten million samples two share one with a chance of 3 in a million.
    """
    text = f"{pipeline}\0{site}\0{sensor}\0{sample_id}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)


def read_record(record: TelemetryRecord, site: str) -> Sample:
    """Returns a record as a row.

    Args:
        record: of a message.
        site: whence it comes.

    Raises:
        PayloadError: it is none.
    """
    sample, pipeline = record.sample, record.pipeline
    _check_texts(record)
    if not (0 < sample.inclusion_probability <= 1):
        raise PayloadError("bad_record", f"a chance of {sample.inclusion_probability}")
    if not -MAX_NUMBER <= sample.correlation < MAX_NUMBER:
        raise PayloadError("bad_record", f"number {sample.correlation}")
    tier1, tier2 = _scores(record.tier1_probabilities), _scores(record.tier2_probabilities)
    kind = None if record.input is None else _kind(record.input)
    row = {
        "pipeline": pipeline,
        "site": site,
        "node": record.node,
        "sensor": sample.sensor,
        "id": sample.id,
        "timestamp": str(sample.timestamp),
        "identity": identity_of(pipeline, site, sample.sensor, sample.id),
        "correlation": sample.correlation,
        "reason": OFFLINE if record.late and sample.reason != "audit" else sample.reason,
        "audit": sample.audit,
        "inclusion_probability": sample.inclusion_probability,
        "tier1_version": record.tier1_version,
        "tier2_version": record.tier2_version,
        "width": len(tier2) // FLOAT_BYTES if len(tier1) == len(tier2) else 0,
        "label": None,
        "held": False,
        "tier1_scores": tier1,
        "tier2_scores": tier2,
    }
    return Sample(row, kind, b"" if record.input is None else record.input.data)


def row_bytes(row: Row) -> int:
    """Returns what a row takes in the database, about."""
    texts = len(row["node"]) + len(row["sensor"]) + len(row["id"]) + len(row["pipeline"])
    return ROW_BYTES + texts + len(row["tier1_scores"]) + len(row["tier2_scores"])


def margins(scores: Sequence[bytes]) -> list[float]:
    """Returns the difference between the two best labels of N samples, 0 to 1.

    The smaller, the less sure the model; 1 for malformed scores, which say nothing of it. Margin
    sampling (Scheffer, Decomain and Wrobel, Active Hidden Markov Models for Information Extraction,
    2001; Settles, Active Learning Literature Survey, 2009, section 3.1).

    Args:
        scores: float32 probabilities of each sample.
    """
    found: list[float] = [0.0] * len(scores)
    by_size: dict[int, list[int]] = {}
    for place, each in enumerate(scores):
        by_size.setdefault(len(each), []).append(place)
    for size, places in by_size.items():
        joined = np.frombuffer(b"".join([scores[place] for place in places]), "<f4")
        table = joined.reshape(-1, size // FLOAT_BYTES)
        best = np.partition(table, -2, axis=1)[:, -2:]
        with np.errstate(all="ignore"):  # what is malformed may be infinite
            sound = np.abs(table.sum(axis=1) - 1.0) <= SUM_TOLERANCE
            apart = np.where(sound, best[:, 1] - best[:, 0], 1.0).clip(0.0, 1.0)
        for place, margin in zip(places, apart.tolist(), strict=True):
            found[place] = margin
    return found


def _check_texts(record: TelemetryRecord) -> None:
    sample = record.sample
    for name in (record.pipeline, record.node, sample.sensor):
        if not _is_name(name):
            raise PayloadError("bad_record", f"{name!r} is no name")
    if not (
        len(sample.id) <= MAX_ID_CHARACTERS
        and len(str(sample.timestamp)) <= MAX_TIMESTAMP_CHARACTERS
        and len(record.tier1_version) <= MAX_VERSION_CHARACTERS
        and len(record.tier2_version) <= MAX_VERSION_CHARACTERS
    ):
        raise PayloadError("bad_record", "a text that is too long")
    if "\0" in f"{sample.id}{sample.timestamp}{record.tier1_version}{record.tier2_version}":
        raise PayloadError("bad_record", "a text with NUL, which PostgreSQL does not take")


@lru_cache(maxsize=4096)
def _is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


def _scores(tensor: Tensor) -> bytes:
    """Returns the bytes of a sample's scores, little-endian float32."""
    data = tensor.data
    if tensor.dtype != "float32" or tensor.shape != (len(data) // FLOAT_BYTES,):
        raise PayloadError("bad_tensor", f"scores of {tensor.dtype} and shape {tensor.shape}")
    if len(data) % FLOAT_BYTES or not 2 <= len(data) // FLOAT_BYTES <= MAX_LABELS:
        raise PayloadError("bad_tensor", f"{len(data)} bytes of scores")
    return data


def _kind(tensor: Tensor) -> InputKind:
    size = _input_bytes(tensor.dtype, tensor.shape)
    if size != len(tensor.data) or not size:
        raise PayloadError(
            "bad_tensor", f"{len(tensor.data)} bytes as {tensor.dtype} of shape {tensor.shape}"
        )
    return tensor.dtype, tensor.shape


@lru_cache(maxsize=256)
def _input_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Returns what an input takes; 0 for one that is not stored."""
    if dtype not in INPUT_DTYPES or len(shape) > MAX_DIMENSIONS or any(each < 1 for each in shape):
        return 0
    return math.prod(shape) * DTYPES[dtype].itemsize
