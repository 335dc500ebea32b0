"""Samples that could not be asked, in memory until they go to the disk together. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.cascade.config import EscalationConfig
from shared.cascade.sizes import cut, head_bytes, sample_bytes
from shared.messages import SCHEMA_VERSION, EscalatedSample, Escalation, Tensor
from shared.scores import Floats
from shared.topics import MAX_NAME


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
    def sizes(self) -> list[int]:
        """What each sample takes in a message."""
        numbers = (self.rows.nbytes + self.probabilities.nbytes) // len(self.samples)
        return [numbers + sample_bytes(sample) for sample in self.samples]

    def part(self, span: slice) -> Batch:
        """Returns some of the samples."""
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
        self._is_full = False

    def __len__(self) -> int:
        """Returns how many samples it holds."""
        return sum(len(batch.samples) for batch in self._batches)

    @property
    def full(self) -> bool:
        """Whether it would take nothing more, or something did not fit any more."""
        return self._is_full

    def add(self, batch: Batch) -> int:
        """Takes what fits; returns how many samples that is, from the first on."""
        sizes, head = batch.sizes, self._head_bytes(batch)
        heads = {part.start for part in self._cut(sizes, head)}
        free_bytes = self._config.max_message_bytes - self._bytes
        taken_bytes, taken = 0, 0
        for row, size in enumerate(sizes):
            needed_bytes = taken_bytes + size + (head if row in heads else 0)
            # One that is larger than any message travels alone.
            if needed_bytes > free_bytes and (taken or self._batches):
                break
            taken_bytes, taken = needed_bytes, row + 1
        if taken:
            self._batches.append(batch.part(slice(0, taken)))
            self._bytes += taken_bytes
        self._is_full = taken < len(sizes) or self._bytes >= self._config.max_message_bytes
        return taken

    def take(self) -> list[Escalation]:
        """Hands out all that it holds as messages; it is empty then."""
        batches, self._batches = _joined(self._batches), []
        self._bytes, self._is_full = 0, False
        return [
            self._message(batch.part(span))
            for batch in batches
            for span in self._cut(batch.sizes, self._head_bytes(batch))
        ]

    def _head_bytes(self, batch: Batch) -> int:
        # Who gets the reply is written when a message is sent.
        return head_bytes(self._node, self._pipeline, batch.version) + MAX_NAME

    def _cut(self, sizes: Sequence[int], head: int) -> list[slice]:
        """A quarter of a minute's budget at most, so that what is urgent finds some left."""
        config, budget = self._config, self._config.budget
        max_bytes, max_samples = config.max_message_bytes, config.max_batch_samples
        if budget.samples_per_minute is not None:
            max_samples = max(1, min(max_samples, budget.samples_per_minute // 4))
        if budget.bytes_per_minute is not None:
            max_bytes = min(max_bytes, budget.bytes_per_minute // 4)
        return cut(sizes, head, max_bytes, max_samples)

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
