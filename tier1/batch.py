"""Samples on their way through the model together. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.cascade.gate import Decisions
from shared.errors import PayloadError
from shared.messages import DecidedBy, Reason
from shared.model_spec import ModelSpec
from shared.scores import Floats, Scored
from tier1.answers import Pack, Verdict
from tier1.deliveries import Taken
from tier1.questions import Question

Rows = NDArray[np.generic]


def stack(batch: Sequence[Taken], shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Rows:
    """Returns the samples of messages as one array.

    Args:
        batch: the messages.
        shape: of one sample.
        dtype: of the samples.

    Returns:
        [N, *shape]; infinite where a number is beyond the dtype.
    """
    with np.errstate(over="ignore"):
        if all(type(taken.rows) is list for taken in batch):
            numbers = np.array([taken.rows for taken in batch], dtype)
            return numbers.reshape(len(batch), *shape)
        parts = [np.asarray(taken.rows, dtype).reshape(taken.size, *shape) for taken in batch]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def refuse_unfinite(
    batch: Sequence[Taken], rows: Rows
) -> tuple[list[Taken], Rows, list[tuple[Taken, PayloadError]]]:
    """Takes out the messages in which a number is not finite.

    Returns:
        What is left of the batch, its rows, and the messages taken out with what is wrong.
    """
    finite = np.isfinite(rows.reshape(len(rows), -1))
    kept, refused, places = [], [], np.ones(len(rows), np.bool_)
    row = 0
    for taken in batch:
        own = finite[row : row + taken.size]
        if own.all():
            kept.append(taken)
        else:
            places[row : row + taken.size] = False
            sample, index = np.argwhere(~own)[0].tolist()
            where = f" of sample {sample}" if taken.is_pack else ""
            problem = f"features[{index}]{where} is not a finite float32"
            refused.append((taken, PayloadError("not_finite", problem)))
        row += taken.size
    return kept, rows[places], refused


class Judged(msgspec.Struct, frozen=True, gc=False):
    """A batch after the gate: N samples in columns, as plain Python values where it is read singly.

    Attributes:
        batch: the messages that brought the samples.
        rows: the samples.
        spec: of the model.
        probabilities: float32 [N, labels].
        certainty: float32 [N], what the threshold was held against.
        accepted: what this tier answers itself.
        labels: index of the likeliest label.
        confidences: its probability, rounded.
        reasons: why it is answered here or asked.
        asked: which samples tier-2 is to see.
        audited: what the audit drew of them.
    """

    batch: Sequence[Taken]
    rows: Rows
    spec: ModelSpec
    probabilities: Floats
    certainty: Floats
    accepted: list[bool]
    labels: list[int]
    confidences: list[float]
    reasons: list[Reason]
    asked: list[int]
    audited: frozenset[int]

    @classmethod
    def of(
        cls,
        batch: Sequence[Taken],
        rows: Rows,
        spec: ModelSpec,
        scored: Scored,
        decisions: Decisions,
    ) -> Judged:
        """Puts a batch and the gate's decisions together."""
        asked = decisions.asked()
        reasons: list[Reason] = ["confident"] * len(rows)
        for row in asked:
            reasons[row] = decisions.reason(row)
        return cls(
            batch,
            rows,
            spec,
            scored.probabilities,
            scored.certainty,
            decisions.accepted.tolist(),
            decisions.labels.tolist(),
            decisions.confidences.astype(np.float64).round(6).tolist(),
            reasons,
            asked,
            frozenset(decisions.audited),
        )

    @property
    def unsure(self) -> int:
        """How many samples tier-1 does not answer itself."""
        return self.accepted.count(False)

    @property
    def confidence(self) -> float:
        """Sum of the confidences."""
        return sum(self.confidences)

    def verdict(self, row: int, decided_by: DecidedBy = "tier1") -> Verdict:
        """Returns tier-1's own verdict on a sample."""
        spec = self.spec
        return Verdict(
            spec.labels[self.labels[row]],
            self.confidences[row],
            decided_by,
            self.reasons[row],
            spec.name,
            spec.version,
            self.probabilities[row],
            spec.labels,
        )

    def pack(self, taken: Taken, first: int) -> Pack:
        """Returns a pack whose first sample is row ``first``, with what tier-1 decides of it."""
        span = slice(first, first + taken.size)
        accepted = self.accepted[span]
        missing = accepted.count(False)
        by: list[DecidedBy] = ["tier1"] * taken.size
        labels = self.spec.labels
        return Pack(
            taken,
            [labels[label] for label in self.labels[span]],
            self.confidences[span],
            by,
            self.reasons[span],
            [self.spec.version] * taken.size,
            # It waits for tier-2 without its batch.
            self.probabilities[span].copy() if missing else self.probabilities[span],
            missing,
        )

    def questions(self, packs: dict[int, Pack]) -> Iterator[Question]:
        """Returns the questions to tier-2.

        Args:
            packs: those that wait for an answer, by their message's place in the batch.
        """
        firsts = [0, *accumulate(taken.size for taken in self.batch)]
        for row in self.asked:
            place = bisect_right(firsts, row) - 1
            accepted = self.accepted[row]
            # Views would keep the whole batch for as long as tier-2 takes.
            own = msgspec.structs.replace(
                self.verdict(row, "fallback"), probabilities=self.probabilities[row].copy()
            )
            yield Question(
                self.batch[place],
                row - firsts[place],
                None if accepted else packs.get(place),
                accepted,
                row in self.audited,
                own,
                self.labels[row],
                float(self.certainty[row]),
                self.rows[row].copy(),
                self.spec,
            )
