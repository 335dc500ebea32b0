"""The samples that thresholds are tested on, and what each threshold would have done to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.certificate.bound import Counts
from shared.scores import Flags, Floats


@dataclass(frozen=True, slots=True)
class Accepted:
    """What M thresholds accept of the evidence, int64 [M] each.

    Attributes:
        n: samples.
        disagreements: those that tier-2 answered otherwise.
        labelled: those that a person has given a label.
        wrong: those of them whose label is not tier-1's.
    """

    n: Counts
    disagreements: Counts
    labelled: Counts
    wrong: Counts


@dataclass(frozen=True, slots=True)
class Evidence:
    """N samples, drawn uniformly from the traffic, that nothing was fitted to.

    Attributes:
        certainty: float32 [N]; NaN where the scores are malformed, which no threshold accepts.
        agrees: bool [N], whether both tiers give the same label.
        labelled: bool [N], whether a person has given a label. Who has one must not depend on
            whether tier-1 is right.
        right: bool [N], whether tier-1's label is that of the person.
    """

    certainty: Floats
    agrees: Flags
    labelled: Flags
    right: Flags

    @classmethod
    def of(
        cls,
        certainty: Floats,
        answers: NDArray[np.int64],
        tier2_answers: NDArray[np.int64],
        labels: NDArray[np.int64] | None = None,
    ) -> Evidence:
        """Holds tier-1's answers against tier-2's, and against people's labels.

        Args:
            certainty: float32 [N], tier-1's.
            answers: int64 [N], tier-1's.
            tier2_answers: int64 [N].
            labels: int64 [N], people's; below 0 for none.
        """
        known = np.full(len(answers), -1) if labels is None else labels
        return cls(certainty, answers == tier2_answers, known >= 0, answers == known)

    def __len__(self) -> int:
        """Returns how many samples there are."""
        return len(self.certainty)

    def accepted(self, thresholds: NDArray[np.float64]) -> Accepted:
        """Counts what thresholds accept, as the gate would: in float32.

        Args:
            thresholds: float64 [M].
        """
        certainty = self.certainty.astype(np.float32)
        certainty[np.isnan(certainty)] = -np.inf
        order = np.argsort(certainty)
        first = np.searchsorted(certainty[order], thresholds.astype(np.float32))

        def above(flags: Flags) -> Counts:
            """Returns how many of the samples at or above each threshold are flagged."""
            below = np.concatenate([[0], np.cumsum(flags[order])])
            return np.asarray(below[-1] - below[first], np.int64)

        return Accepted(
            n=np.asarray(len(self) - first, np.int64),
            disagreements=above(~self.agrees),
            labelled=above(self.labelled),
            wrong=above(self.labelled & ~self.right),
        )
