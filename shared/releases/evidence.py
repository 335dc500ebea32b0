"""Whether a share is above a limit, told from counts. Pure."""

from __future__ import annotations

import math

ALTERNATIVES = 16
WILSON_Z = 3.09
"""Quantile of the normal distribution: 0.1 % lies above it."""
LARGEST_LIMIT = 0.999


def is_above(bad: int, total: int, limit: float, false_alarm: float) -> bool:
    """Whether counts prove that what was counted comes about with a probability above a limit.

    They may be looked at after every sample and for as long as one likes: the chance that any of
    the looks says so, while the probability is at most the limit, is at most ``false_alarm``.

    The evidence is a mixture of likelihood ratios of the alternatives p > limit, which is a
    supermartingale under every p <= limit; by Ville's inequality it ever reaches 1 / false_alarm
    with a probability of at most false_alarm (Robbins, Statistical methods related to the law of
    the iterated logarithm, Annals of Mathematical Statistics 41, 1970; Howard, Ramdas, McAuliffe
    and Sekhon, Time-uniform Chernoff bounds via nonnegative supermartingales, Probability Surveys
    17, 2020, arXiv 1808.03204).

    Args:
        bad: how many were so, at least 0.
        total: of how many.
        limit: 0 to 1; at ``LARGEST_LIMIT`` or above nothing is proven.
        false_alarm: above 0, below 1.
    """
    if bad <= limit * total or limit >= LARGEST_LIMIT:
        return False
    return log_evidence(bad, total, max(limit, 1 - LARGEST_LIMIT)) >= -math.log(false_alarm)


def log_evidence(bad: int, total: int, limit: float) -> float:
    """Returns the natural logarithm of the evidence against p <= limit; it grows with ``bad``.

    Args:
        bad: how many were so.
        total: of how many.
        limit: above 0, below 1.
    """
    logs = []
    for number in range(ALTERNATIVES):
        other = limit + (1 - limit) * (number + 0.5) / ALTERNATIVES
        logs.append(
            bad * math.log(other / limit) + (total - bad) * math.log((1 - other) / (1 - limit))
        )
    largest = max(logs)
    mean = sum(math.exp(each - largest) for each in logs) / ALTERNATIVES
    return largest + math.log(mean)


def highest(bad: int, total: int) -> float:
    """Returns the highest probability that counts still allow: 1 where nothing was counted.

    Upper end of the score interval at ``WILSON_Z`` (Wilson, Probable inference, the law of
    succession, and statistical inference, JASA 22, 1927).

    Args:
        bad: how many were so.
        total: of how many.
    """
    if total <= 0:
        return 1.0
    share, square = bad / total, WILSON_Z**2
    spread = WILSON_Z * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    return min(1.0, (share + square / (2 * total) + spread) / (1 + square / total))
