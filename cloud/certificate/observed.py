"""What was recorded of one version of tier-1: its answers beside tier-2's and people's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cloud.certificate.curves import Curve
from cloud.certificate.estimate import Weights
from shared.errors import EscalonError
from shared.scores import Flags, Floats, ScoreName
from shared.scores import certainty as certainty_of

Answers = NDArray[np.int64]


class TrafficError(EscalonError):
    """What was recorded does not allow what is asked of it."""


class Recorded(Protocol):
    """Columns of N samples that were sent, oldest first, as the store returns them."""

    @property
    def tier1(self) -> Floats:
        """Tier-1's calibrated probabilities, float32 [N, labels]; NaN where malformed."""

    @property
    def tier2(self) -> Floats:
        """Tier-2's, float32 [N, labels]."""

    @property
    def audit(self) -> Flags:
        """Whether the audit drew the sample, bool [N]."""

    @property
    def inclusion_probability(self) -> NDArray[np.float64]:
        """The chance that such a sample is sent, in (0, 1], float64 [N]."""

    @property
    def tier1_version(self) -> Sequence[str]:
        """Of the model that was asked first."""

    @property
    def tier2_version(self) -> Sequence[str]:
        """Of the model that was asked then."""

    @property
    def label(self) -> Answers:
        """A person's, int64 [N]; below 0 for none."""

    @property
    def has_input(self) -> Flags:
        """Whether its input came with it, bool [N]."""


@dataclass(frozen=True, slots=True)
class Observed:
    """N samples that one version of tier-1 has seen, and the same one of tier-2.

    Attributes:
        certainty: float32 [N], what the threshold is held against; NaN where malformed.
        answers: int64 [N], tier-1's.
        tier2_answers: int64 [N].
        labels: int64 [N], people's; below 0 for none.
        asked: bool [N], what people were asked to label because it is hard.
        chances: float64 [N], inclusion probabilities.
        audited: bool [N], what the audit drew.
        input_share: share of the samples that came with their input, 0 to 1.
    """

    certainty: Floats
    answers: Answers
    tier2_answers: Answers
    labels: Answers
    asked: Flags
    chances: NDArray[np.float64]
    audited: Flags
    input_share: float

    @classmethod
    def of(
        cls,
        recorded: Recorded,
        *,
        tier1_version: str,
        tier2_version: str,
        score: ScoreName,
        asked: Flags | None = None,
    ) -> Observed:
        """Picks out what two versions have seen.

        Args:
            recorded: all that was sent, or all of some time.
            tier1_version: whose threshold is looked at.
            tier2_version: whose answers it is held against.
            score: the certainty that the threshold is held against.
            asked: bool [N], what people were asked to label because it is hard; None for nothing.

        Raises:
            TrafficError: nothing can be said of what tier-1 accepts.
        """
        if score == "energy":
            raise TrafficError(
                "the threshold is held against the energy of the logits, and telemetry holds "
                "probabilities, from which it cannot be computed again"
            )
        rows = _rows(recorded, tier1_version, tier2_version)
        _check_audit(recorded.audit[rows], tier1_version)
        probabilities = recorded.tier1[rows]
        return cls(
            certainty=certainty_of(probabilities, probabilities, score),
            answers=probabilities.argmax(axis=1),
            tier2_answers=recorded.tier2[rows].argmax(axis=1),
            labels=recorded.label[rows],
            asked=np.full(len(rows), False) if asked is None else asked[rows],
            chances=recorded.inclusion_probability[rows],
            audited=recorded.audit[rows],
            input_share=float(recorded.has_input[rows].mean()),
        )

    @property
    def weights(self) -> Weights:
        """One over the inclusion probabilities, float64 [N]."""
        weights: Weights = 1.0 / self.chances
        return weights

    @property
    def audit_share(self) -> float:
        """Share of the traffic that the audit draws, 0 to 1."""
        return float(np.count_nonzero(self.audited) / self.weights.sum())

    @property
    def disagrees(self) -> Flags:
        """Whether tier-2 answers otherwise, bool [N]."""
        differs: Flags = self.answers != self.tier2_answers
        return differs

    @property
    def truth(self) -> Answers:
        """The person's label, else what tier-2 answers, int64 [N]."""
        return np.where(self.labels >= 0, self.labels, self.tier2_answers)

    def curve(self) -> Curve:
        """Returns the risk-coverage curve against tier-2."""
        return Curve.of(self.certainty, self.disagrees, self.weights)


def versions_of(recorded: Recorded) -> dict[str, int]:
    """Returns how many samples each version of tier-1 sent, by the time of its first."""
    counts: dict[str, int] = {}
    for version in recorded.tier1_version:
        counts[version] = counts.get(version, 0) + 1
    return counts


def _rows(recorded: Recorded, tier1_version: str, tier2_version: str) -> NDArray[Any]:
    is_meant = np.array(
        [
            pair == (tier1_version, tier2_version)
            for pair in zip(recorded.tier1_version, recorded.tier2_version, strict=True)
        ],
        bool,
    )
    rows = np.flatnonzero(is_meant)
    if not len(rows):
        known = ", ".join(versions_of(recorded)) or "none"
        raise TrafficError(
            f"nothing is recorded of version {tier1_version} of tier-1 beside version "
            f"{tier2_version} of tier-2; versions of tier-1 in what is recorded: {known}"
        )
    return rows


def _check_audit(audited: Flags, version: str) -> None:
    if not audited.any():
        raise TrafficError(
            f"of the {len(audited)} samples that version {version} sent, the audit drew none: "
            "nothing is known of what it answers alone. Fix: set `audit_share` on its nodes, or "
            "wait"
        )
