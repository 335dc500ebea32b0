"""The gate: which samples a tier answers itself. Pure; the random draws come in."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.messages import Reason
from shared.scores import Flags, Floats, Scored


class Decisions(NamedTuple):
    """What becomes of a batch of N samples, in columns.

    Attributes:
        accepted: bool [N], this tier answers itself, at once.
        audits: bool [N], the audit drew the sample, whatever the gate said of it.
        sound: bool [N], whether the scores were well-formed.
        labels: int [N], index of the likeliest label; 0 where the scores are malformed.
        confidences: float32 [N], its probability, 0 to 1; 0 where the scores are malformed.
    """

    accepted: Flags
    audits: Flags
    sound: Flags
    labels: NDArray[np.intp]
    confidences: Floats

    def asked(self) -> list[int]:
        """Returns which samples the next tier is to see, with or without anybody waiting."""
        return np.flatnonzero(~self.accepted | self.audits).tolist()

    def reason(self, row: int) -> Reason:
        """Returns why a sample is answered here, or asked."""
        if not self.sound[row]:
            return "invalid_scores"
        if not self.accepted[row]:
            return "low_confidence"
        return "audit" if self.audits[row] else "confident"


def decide(
    scored: Scored, threshold: float, audit_share: float, draws: NDArray[np.float64]
) -> Decisions:
    """Decides on a batch.

    The audit draws before the gate and from all samples alike: the drawn ones are a uniform sample
    of the traffic, and what is estimated on them needs no weights. A malformed score is never an
    easy sample.

    Args:
        scored: what the model says of N samples.
        threshold: accepts from this certainty on.
        audit_share: share of samples to audit, 0 to 1.
        draws: float [N], uniform in [0, 1).
    """
    probabilities, certainty = scored
    sound = np.isfinite(certainty)
    labels = probabilities.argmax(axis=1)
    confidences = np.maximum.reduce(probabilities, axis=1)
    if not np.logical_and.reduce(sound):
        labels = np.where(sound, labels, 0)
        confidences = np.where(sound, confidences, np.float32(0))
    return Decisions(certainty >= threshold, draws < audit_share, sound, labels, confidences)


def draw(rng: random.Random, count: int) -> NDArray[np.float64]:
    """Returns numbers for ``decide``, uniform in [0, 1).

    Not by numpy's generator, which takes a small node 7 MiB.
    """
    words = np.frombuffer(rng.randbytes(4 * count), np.uint32)
    return np.multiply(words, 2.0**-32, dtype=np.float64)


def inclusion_probability(*, accepted: bool, audit_share: float) -> float:
    """Returns the chance that such a sample gets to the next tier, in (0, 1]."""
    return audit_share if accepted else 1.0
