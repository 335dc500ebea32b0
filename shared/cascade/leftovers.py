"""Samples that could not be asked, in memory until they go to the disk together. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.cascade.config import EscalationConfig
from shared.messages import SCHEMA_VERSION, EscalatedSample, Escalation, Tensor
from shared.scores import Floats

OVERHEAD_BYTES = 96  # of a sample in a message, beside its numbers, its scores and its names


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Samples of one model.

    Attributes:
        samples: N questions, at least one.
        rows: of the pipeline's dtype, [N, ...].
        probabilities: float32 [N, labels].
        version: of the model that gave them.
    """

    samples: Sequence[EscalatedSample]
    rows: NDArray[np.generic]
    probabilities: Floats
    version: str

    @property
    def sample_bytes(self) -> int:
        """What the numbers and the scores of one sample take."""
        return (self.rows.nbytes + self.probabilities.nbytes) // len(self.samples)

    def part(self, start: int, end: int) -> Batch:
        """Returns the samples from ``start`` to before ``end``."""
        span = slice(start, end)
        return Batch(self.samples[span], self.rows[span], self.probabilities[span], self.version)


class Leftovers:
    """Collects at most a message's worth, and writes it into messages of the backlog.

    Args:
        node: this node's name.
        pipeline: the pipeline.
        config: how the next tier is asked.
        first_number: of the questions, below 0; they count down from it.
    """

    def __init__(
        self, node: str, pipeline: str, config: EscalationConfig, first_number: int
    ) -> None:
        self._node = node
        self._pipeline = pipeline
        self._config = config
        self._number = first_number
        self._batches: list[Batch] = []
        self._bytes = 0

    def __len__(self) -> int:
        """Returns how many samples it holds."""
        return sum(len(batch.samples) for batch in self._batches)

    @property
    def full(self) -> bool:
        """Whether it would take nothing more."""
        return self._bytes >= self._config.max_message_bytes

    def add(self, batch: Batch) -> int:
        """Takes what fits; returns how many samples that is, from the first on."""
        names = max(len(sample.id) + len(sample.sensor) for sample in batch.samples)
        each_bytes = batch.sample_bytes + names + OVERHEAD_BYTES
        free_bytes = max(0, self._config.max_message_bytes - self._bytes)
        # One that is larger than any message travels alone.
        room = max(free_bytes // each_bytes, 0 if self._batches else 1)
        taken = min(room, len(batch.samples))
        if taken:
            self._batches.append(batch.part(0, taken))
            self._bytes += each_bytes * taken
        return taken

    def take(self) -> list[Escalation]:
        """Hands out all that it holds as messages; it is empty then."""
        batches, self._batches, self._bytes = _joined(self._batches), [], 0
        return [self._message(part) for batch in batches for part in self._parts(batch)]

    def _parts(self, batch: Batch) -> list[Batch]:
        size = self._samples_a_message(batch.sample_bytes)
        return [batch.part(start, start + size) for start in range(0, len(batch.samples), size)]

    def _samples_a_message(self, sample_bytes: int) -> int:
        """A quarter of a minute's budget at most, so that what is urgent finds some left."""
        budget = self._config.budget
        size = self._config.samples_a_message(sample_bytes)
        if budget.samples_per_minute is not None:
            size = min(size, budget.samples_per_minute // 4)
        if budget.bytes_per_minute is not None:
            size = min(size, budget.bytes_per_minute // 4 // (sample_bytes + OVERHEAD_BYTES))
        return max(1, size)

    def _message(self, batch: Batch) -> Escalation:
        numbers = range(self._number, self._number - len(batch.samples), -1)
        self._number -= len(batch.samples)
        return Escalation(
            SCHEMA_VERSION,
            self._node,
            self._pipeline,
            batch.version,
            budget_ms=0.0,
            seen=0,
            unsure=0,
            samples=tuple(
                msgspec.structs.replace(sample, correlation=number)
                for sample, number in zip(batch.samples, numbers, strict=True)
            ),
            inputs=Tensor.of(batch.rows),
            probabilities=Tensor.of(batch.probabilities),
            backlog=True,
        )


def _joined(batches: Sequence[Batch]) -> list[Batch]:
    """Puts together what came in pieces, as far as it may share a message."""
    alike: dict[tuple[str, int], list[Batch]] = {}
    for batch in batches:
        alike.setdefault((batch.version, batch.probabilities.shape[1]), []).append(batch)
    return [
        Batch(
            [sample for part in parts for sample in part.samples],
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.probabilities for part in parts]),
            version,
        )
        for (version, _), parts in alike.items()
    ]
