"""Recorded traffic for tests, and how far chance goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import binom

from shared.scores import Flags, Floats

SELDOM = 1e-3
"""A test that goes by chance fails so seldom where all is well, whatever its seed."""


def most_by_chance(trials: int, chance: float) -> int:
    """Returns the largest count that is no evidence of a higher chance."""
    return int(binom.isf(SELDOM, trials, chance))


def beyond_chance(count: int, trials: int, chance: float) -> bool:
    """Whether a count is evidence of another chance, either way."""
    tail = min(binom.cdf(count, trials, chance), binom.sf(count - 1, trials, chance))
    return bool(tail < SELDOM / 2)


@dataclass(frozen=True)
class Columns:
    """What was sent, in the columns of the store."""

    tier1: Floats
    tier2: Floats
    audit: Flags
    inclusion_probability: NDArray[np.float64]
    tier1_version: tuple[str, ...]
    tier2_version: tuple[str, ...]
    label: NDArray[np.int64]
    has_input: Flags


@dataclass(frozen=True)
class Seen:
    """What tier-1 saw, all of it, beside what tier-2 and people would say.

    Attributes:
        tier1: float32 [N, labels].
        tier2: float32 [N, labels].
        truth: int64 [N].
    """

    tier1: Floats
    tier2: Floats
    truth: NDArray[np.int64]

    @classmethod
    def of(cls, rng: np.random.Generator, n: int, labels: int = 3, gain: float = 6.0) -> Seen:
        """Draws samples of which tier-1's probabilities are calibrated, and tier-2 knows most."""
        logits = rng.normal(0.0, gain, (n, labels))
        tier1 = softmax(logits, axis=1)
        draws = (rng.random((n, 1)) > tier1.cumsum(axis=1)).sum(axis=1)
        answers = np.minimum(draws, labels - 1).astype(np.int64)
        truth = np.where(rng.random(n) < 0.01, (answers + 1) % labels, answers)
        tier2 = np.full((n, labels), 0.1 / (labels - 1))
        tier2[np.arange(n), answers] = 0.9
        return cls(tier1.astype(np.float32), tier2.astype(np.float32), truth)

    @property
    def certainty(self) -> Floats:
        """The largest probability, float32 [N]."""
        return np.asarray(self.tier1.max(axis=1))

    def sent(
        self,
        rng: np.random.Generator,
        threshold: float,
        audit_share: float,
        *,
        versions: tuple[str, str] = ("1", "7"),
        label_share: float = 0.0,
    ) -> Columns:
        """Returns what reaches tier-2, and the cloud, of all this."""
        accepted = self.certainty >= np.float32(threshold)
        audit = rng.random(len(accepted)) < audit_share
        rows = np.flatnonzero(~accepted | audit)
        labelled = rng.random(len(rows)) < label_share
        return Columns(
            tier1=self.tier1[rows],
            tier2=self.tier2[rows],
            audit=audit[rows],
            inclusion_probability=np.where(accepted[rows], audit_share, 1.0),
            tier1_version=(versions[0],) * len(rows),
            tier2_version=(versions[1],) * len(rows),
            label=np.where(labelled, self.truth[rows], -1),
            has_input=np.full(len(rows), True),
        )
