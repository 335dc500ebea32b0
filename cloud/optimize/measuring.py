"""Measures candidates beside the float32 model in a confined child: how fast, how right.

A line is printed before and after each candidate: where one ends the process, the parent knows
which it was, and has the rest measured by another child.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud.optimize.case import BATCH, Case, decode, read_rows
from cloud.optimize.rows import Figures
from cloud.optimize.timing import Pairs, interleaved
from shared.errors import ArtefactError
from shared.model import Model
from shared.releases.structure import check_structure
from shared.scores import Floats, probabilities

NEIGHBOURED_ROWS = 64
FEWEST_ROWS = 64
FEWEST_PAIRS, PAIRS, CONFIRMING_PAIRS = 5, 51, 201
PAIR_S = 0.01
"""On average: of a slow model fewer pairs are measured."""
ANSWERING_SHARE = 0.4
"""Of a candidate's time; the rest is for the measurement of its latency."""

UP = "not measured: the time was up"


class MeasuringJob(msgspec.Struct, frozen=True):
    """What to measure.

    Attributes:
        case: the float32 model.
        candidates: files by name, in order.
        rows: file of the test inputs.
        labels: file of the reference labels, int64, -1 where there is none; None without any.
        seconds: by when all should be measured.
        pairs: interleaved pairs of measurements of each batch size, at most.
        tested: so many test inputs are answered; 0 for as many as there is time for.
    """

    case: Case
    candidates: dict[str, Path]
    rows: Path
    labels: Path | None
    seconds: float = 0.0
    pairs: int = PAIRS
    tested: int = 0

    def confirming(self, name: str) -> MeasuringJob:
        """Returns the job that measures one candidate again, and longer."""
        only = {name: self.candidates[name]}
        return msgspec.structs.replace(self, candidates=only, pairs=CONFIRMING_PAIRS)


class Measured(msgspec.Struct, frozen=True, tag=True):
    """What came of one candidate; before that, that it has begun.

    Attributes:
        name: the candidate's.
        figures: None where it has only begun, or failed.
        reason: why it failed.
    """

    name: str
    figures: Figures | None = None
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether it says what came of the candidate."""
        return self.figures is not None or bool(self.reason)


def run(path: Path) -> None:
    """Measures the candidates of a job, and prints a line of JSON for each."""
    for measured in measure(decode(path.read_bytes(), MeasuringJob)):
        sys.stdout.write(msgspec.json.encode(measured).decode() + "\n")
        sys.stdout.flush()


def measure(job: MeasuringJob) -> Iterator[Measured]:
    """Yields each candidate twice: as it begins, and what came of it."""
    ends_s = time.monotonic() + job.seconds
    reference = None
    for left, (name, path) in zip(
        range(len(job.candidates), 0, -1), job.candidates.items(), strict=True
    ):
        yield Measured(name)
        share_s = (ends_s - time.monotonic()) / left
        if share_s <= 0:
            yield Measured(name, reason=UP)
            continue
        try:
            reference = reference or Reference.of(job, share_s)
            yield Measured(name, reference.compare(path, share_s))
        except ArtefactError as error:
            yield Measured(name, reason=_without_path(str(error), path))
        except MemoryError as error:
            yield Measured(name, reason=f"it takes more memory than it may: {error}")


def _without_path(reason: str, path: Path) -> str:
    """Returns a reason without the path of a temporary file, which means nothing to anybody."""
    return reason.removeprefix(f"{path}, the model of {path.stem}: ").replace(f"{path} ", "it ")


@dataclass(frozen=True)
class Reference:
    """The float32 model and its answers, which candidates are held against.

    Attributes:
        case: the model.
        model: loaded.
        rows: test inputs, [N, *shape].
        labels: int64 [N], -1 where there is none; None without any.
        answers: int64 [N], the model's own.
        pairs: interleaved pairs of measurements of each batch size, at most.
    """

    case: Case
    model: Model
    rows: NDArray[Any]
    labels: NDArray[np.int64] | None
    answers: NDArray[np.int64]
    pairs: int

    @classmethod
    def of(cls, job: MeasuringJob, share_s: float) -> Reference:
        """Loads the model, and has it answer as many test inputs as there is time for.

        Raises:
            ArtefactError: it does not load, or does not answer.
        """
        model, rows = job.case.load(job.case.model), read_rows(job.rows)
        row_s = model.expected_ms(BATCH) / BATCH / 1000
        affordable = max(FEWEST_ROWS, int(min(ANSWERING_SHARE * share_s / row_s, len(rows))))
        rows = rows[: job.tested or affordable]
        labels = None if job.labels is None else read_rows(job.labels)[: len(rows)]
        known = labels is not None and bool((labels >= 0).any())
        answers = _finite(model.scores(rows)).argmax(axis=1)
        return cls(job.case, model, rows, labels if known else None, answers, job.pairs)

    def compare(self, path: Path, share_s: float) -> Figures:
        """Measures one candidate.

        Args:
            path: its file.
            share_s: about so long it may take.

        Raises:
            ArtefactError: it does not load, or does not answer.
        """
        check_structure(path.read_bytes())
        model = self.case.load(path)
        answers = _finite(model.scores(self.rows)).argmax(axis=1)
        left_s = (1 - ANSWERING_SHARE) * share_s / 2
        one, batch = (self._pairs(model, count, left_s) for count in (1, BATCH))
        return Figures(
            latency_1_ms=one.latency_ms,
            latency_32_ms=batch.latency_ms,
            speed_1=one.speed,
            speed_32=batch.speed,
            accuracy=self._accuracy(answers),
            source_accuracy=self._accuracy(self.answers),
            agreement=float((answers == self.answers).mean()),
            neighbour_shift=neighbour_shift(model, self.rows[:NEIGHBOURED_ROWS]),
            tested=len(self.rows),
            pairs=min(one.count, batch.count),
        )

    def _pairs(self, model: Model, count: int, share_s: float) -> Pairs:
        rows = self.rows[np.arange(count) % len(self.rows)]
        ends_s = time.monotonic() + min(share_s, self.pairs * PAIR_S)
        return interleaved(
            lambda: self.model.scores(rows),
            lambda: model.scores(rows),
            time.thread_time,
            lambda done: done < FEWEST_PAIRS or (done < self.pairs and time.monotonic() < ends_s),
        )

    def _accuracy(self, answers: NDArray[np.int64]) -> float | None:
        if self.labels is None:
            return None
        known = self.labels >= 0
        return float((answers[known] == self.labels[known]).mean())


def neighbour_shift(model: Model, rows: NDArray[Any]) -> float:
    """Returns the largest change of a probability when a sample is asked among others.

    Asked alone, then in batches as the rows come, then with the largest of them in one batch:
    dynamic quantization takes its range from the largest number in a batch.

    Args:
        model: the candidate.
        rows: [N, *shape].
    """
    alone = _probabilities(model, np.concatenate([model.scores(row[None]) for row in rows]))
    size = np.abs(rows.reshape(len(rows), -1).astype(np.float32)).max(axis=1)
    shifts = []
    for order in (np.arange(len(rows)), np.argsort(size, kind="stable")):
        among = _probabilities(model, model.scores(rows[order]))
        shifts.append(np.abs(among - alone[order]).max())
    return float(np.nanmax(shifts))


def _probabilities(model: Model, scores: Floats) -> Floats:
    return probabilities(scores, model.spec.scores, 1.0)


def _finite(scores: Floats) -> Floats:
    if not np.isfinite(scores).all():
        raise ArtefactError("it answers NaN or infinity to a test input")
    return scores
