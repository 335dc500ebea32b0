"""Latencies out of recorded predictions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from cloud.certificate.latency import Latencies
from shared.errors import EscalonError, PayloadError, StorageError
from shared.messages import PackPrediction, Prediction, from_json

MAX_LINES = 1_000_000


class PredictionsError(EscalonError):
    """What was recorded of predictions cannot be used."""


def read_latencies(path: Path) -> Latencies:
    """Returns the latencies of recorded predictions, of the first ``MAX_LINES``.

    Args:
        path: a prediction, or one of a pack, as JSON a line; what is more in a line is an error.
            Corrections are left out: somebody had an answer before.

    Raises:
        PredictionsError: a line is none, or there are none of one kind.
        StorageError: the file cannot be read.
    """
    alone: list[float] = []
    asked: list[float] = []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(islice(lines, MAX_LINES), 1):
                for decided_by, latency_ms in _answers(path, number, line):
                    (alone if decided_by == "tier1" else asked).append(latency_ms)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if not alone or not asked:
        raise PredictionsError(
            f"{path}: {len(alone)} answers of tier-1 alone and {len(asked)} others; it takes some "
            "of each. Fix: record for longer"
        )
    return Latencies(np.array(alone), np.array(asked))


def _answers(path: Path, number: int, line: bytes) -> Iterator[tuple[str, float]]:
    """Yields who decided and how long it took, of each answer in a line."""
    if not line.strip():
        return
    try:
        if b'"predictions"' in line:
            pack = from_json(line, PackPrediction)
            yield from ((decided_by, pack.latency_ms) for decided_by in pack.decided_by)
            return
        prediction = from_json(line, Prediction)
    except PayloadError as error:
        raise PredictionsError(
            f"{path}:{number}: {error}. Fix: record payloads alone (mosquitto_sub without -v)"
        ) from error
    if not prediction.is_correction:
        yield prediction.decided_by, prediction.latency_ms
