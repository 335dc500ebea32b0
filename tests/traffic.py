"""Recorded traffic for tests, and how far chance goes."""

from __future__ import annotations

from scipy.stats import binom

SELDOM = 1e-3
"""A test that goes by chance fails so seldom where all is well, whatever its seed."""


def most_by_chance(trials: int, chance: float) -> int:
    """Returns the largest count that is no evidence of a higher chance."""
    return int(binom.isf(SELDOM, trials, chance))


def beyond_chance(count: int, trials: int, chance: float) -> bool:
    """Whether a count is evidence of another chance, either way."""
    tail = min(binom.cdf(count, trials, chance), binom.sf(count - 1, trials, chance))
    return bool(tail < SELDOM / 2)
