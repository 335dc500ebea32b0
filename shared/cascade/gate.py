"""The gate: which samples a tier answers itself. Pure; what the audit drew comes in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.messages import Reason
from shared.scores import Flags, Floats, Scored


class Decisions(NamedTuple):
    """What becomes of a batch of N samples, in columns.

    Attributes:
        accepted: bool [N], this tier answers itself, at once.
        sound: bool [N], whether the scores were well-formed; None where all were.
        labels: int [N], index of the likeliest label; 0 where the scores are malformed.
        confidences: float32 [N], its probability, 0 to 1; 0 where the scores are malformed.
        audited: what the audit drew, by place, whatever the gate said of it.
    """

    accepted: Flags
    sound: Flags | None
    labels: NDArray[np.intp]
    confidences: Floats
    audited: Sequence[int]

    def asked(self) -> list[int]:
        """Returns which samples the next tier is to see, with or without anybody waiting."""
        if np.logical_and.reduce(self.accepted):
            return list(self.audited)
        refused: list[int] = (~self.accepted).nonzero()[0].tolist()
        return sorted({*refused, *self.audited}) if self.audited else refused

    def reason(self, row: int) -> Reason:
        """Returns why a sample is answered here, or asked."""
        if self.sound is not None and not self.sound[row]:
            return "invalid_scores"
        if not self.accepted[row]:
            return "low_confidence"
        return "audit" if row in self.audited else "confident"


def decide(scored: Scored, threshold: float, audited: Sequence[int] = ()) -> Decisions:
    """Decides on a batch. A malformed score is never an easy sample.

    Args:
        scored: what the model says of N samples.
        threshold: accepts from this certainty on.
        audited: what the audit drew of them, by place, ascending.
    """
    probabilities, certainty, sound = scored
    accepted = certainty >= threshold
    labels = probabilities.argmax(axis=1)
    confidences = np.maximum.reduce(probabilities, axis=1)
    if sound is None:
        return Decisions(accepted, None, labels, confidences, audited)
    return Decisions(
        accepted & sound,
        sound,
        np.where(sound, labels, 0),
        np.where(sound, confidences, np.float32(0)),
        audited,
    )


def inclusion_probability(*, by_audit: bool, audit_share: float) -> float:
    """Returns the chance that such a sample gets to the next tier, in (0, 1].

    With its inverse as weight, what got there stands for all samples: the estimator of Horvitz and
    Thompson (A Generalization of Sampling Without Replacement From a Finite Universe, 1952).

    Args:
        by_audit: whether it gets there only if the audit draws it: this tier has answered it, or
            there is no room for what is hard.
        audit_share: the audit's chance.
    """
    return audit_share if by_audit else 1.0
