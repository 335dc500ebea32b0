"""The gate: which samples tier-1 answers itself. Pure; the random draws come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.messages import Reason
from shared.scores import Floats, well_formed


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one sample.

    Attributes:
        accepted: tier-1 answers itself, at once.
        reason: why.
        audit: the sample was drawn for the audit, whatever the gate said of it.
        label: index of the likeliest label.
        confidence: its probability, 0 to 1; 0 where the scores are malformed.
        inclusion_probability: the chance that tier-2 gets to see such a sample.
    """

    accepted: bool
    reason: Reason
    audit: bool
    label: int
    confidence: float
    inclusion_probability: float

    @property
    def asks_tier2(self) -> bool:
        """Whether the sample goes to tier-2, with or without anybody waiting."""
        return not self.accepted or self.audit


def decide(
    probabilities: Floats, threshold: float, audit_share: float, draws: NDArray[np.float64]
) -> Sequence[Decision]:
    """Decides on a batch.

    The audit draws before the gate and from all samples alike: the drawn ones are a uniform sample
    of the traffic, and what is estimated on them needs no weights.

    Args:
        probabilities: float32 [N, labels].
        threshold: accepts from this confidence on.
        audit_share: share of samples to audit, 0 to 1.
        draws: float [N], uniform in [0, 1).
    """
    sound = well_formed(probabilities)
    labels = np.where(sound, probabilities.argmax(axis=1), 0)
    confidences = np.where(sound, probabilities.max(axis=1), 0.0)
    return [
        _decide_one(
            sound=bool(sound[i]),
            label=int(labels[i]),
            confidence=float(confidences[i]),
            threshold=threshold,
            audit_share=audit_share,
            audit=bool(draws[i] < audit_share),
        )
        for i in range(len(probabilities))
    ]


def _decide_one(
    *, sound: bool, label: int, confidence: float, threshold: float, audit_share: float, audit: bool
) -> Decision:
    if not sound:
        # A malformed score is never an easy sample.
        return Decision(False, "invalid_scores", audit, label, 0.0, 1.0)
    if confidence < threshold:
        return Decision(False, "low_confidence", audit, label, confidence, 1.0)
    reason: Reason = "audit" if audit else "confident"
    return Decision(True, reason, audit, label, confidence, audit_share)
