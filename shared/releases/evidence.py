"""Whether a share is above a limit, told from counts. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

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


def evenly(limit: float) -> list[float]:
    """Returns alternatives that lie evenly above a limit: for what is far above it."""
    return [limit + (1 - limit) * (number + 0.5) / ALTERNATIVES for number in range(ALTERNATIVES)]


def near(limit: float) -> list[float]:
    """Returns alternatives that lie the closer the nearer to a limit: for what is just above it.

    From ``1 - limit`` times 2^-8 above it on, each further by a factor of the square root of 2.
    """
    return [limit + (1 - limit) * 2 ** (-number / 2) for number in range(1, ALTERNATIVES + 1)]


def log_evidence(
    bad: int, total: int, limit: float, alternatives: Callable[[float], list[float]] = evenly
) -> float:
    """Returns the natural logarithm of the evidence against p <= limit; it grows with ``bad``.

    Args:
        bad: how many were so.
        total: of how many.
        limit: above 0, below 1.
        alternatives: returns those above a limit, each as likely beforehand as any other.
    """
    good = total - bad
    logs = [bad * for_bad + good * for_good for for_bad, for_good in _ratios(limit, alternatives)]
    largest = max(logs)
    mean = sum([math.exp(each - largest) for each in logs]) / ALTERNATIVES
    return largest + math.log(mean)


@lru_cache(maxsize=64)
def _ratios(
    limit: float, alternatives: Callable[[float], list[float]]
) -> list[tuple[float, float]]:
    """Returns the logarithm of the likelihood ratio of one that is bad, and of one that is not."""
    return [
        (math.log(other / limit), math.log((1 - other) / (1 - limit)))
        for other in alternatives(limit)
    ]


def is_below(bad: int, total: int, limit: float, false_claim: float) -> bool:
    """Whether counts prove that what was counted comes about with a probability up to a limit.

    The exact one-sided test, for counts that are looked at once: the upper bound of Clopper and
    Pearson (Biometrika 26(4), 1934) at confidence 1 - false_claim is at most the limit if and only
    if so few or fewer come about with a probability of at most false_claim at the limit.

    Args:
        bad: how many were so, 0 to ``total``.
        total: of how many.
        limit: above 0, below 1.
        false_claim: how likely it may say so though the probability is above the limit.
    """
    if bad >= total:
        return False
    log_odds, chance = math.log(limit) - math.log1p(-limit), 0.0
    log_term = total * math.log1p(-limit)
    for number in range(bad + 1):
        chance += math.exp(log_term)
        if chance > false_claim:
            return False
        log_term += math.log((total - number) / (number + 1)) + log_odds
    return True


def least_total(limit: float, false_claim: float) -> int:
    """Returns of how many at least none must have been so for ``is_below`` to say so.

    Args:
        limit: above 0, below 1.
        false_claim: above 0, below 1.
    """
    return max(1, math.ceil(math.log(false_claim) / math.log1p(-limit)))


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
