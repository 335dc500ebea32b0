"""Exact bounds on a binomial rate, and how many trials they take."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

Counts = NDArray[np.int64]
Rates = NDArray[np.float64]

TRIALS_AT_ONCE = 1024


def upper_bounds(errors: Counts, trials: Counts, delta: float) -> Rates:
    """Returns exact one-sided upper confidence bounds on binomial rates.

    Clopper and Pearson, Biometrika 26(4), 1934: the 1 - delta quantile of
    Beta(errors + 1, trials - errors).

    Args:
        errors: int64 [M], 0 to ``trials``.
        trials: int64 [M]; without any the bound is 1.
        delta: chance that a rate exceeds its bound, within 0 to 1.

    Returns:
        float64 [M].
    """
    right = trials - errors
    bounds = betaincinv(errors + 1.0, np.maximum(right, 1), 1.0 - delta)
    return np.asarray(np.where(right > 0, bounds, 1.0))


def lower_bounds(errors: Counts, trials: Counts, delta: float) -> Rates:
    """Returns exact one-sided lower confidence bounds on binomial rates.

    They are to the upper bounds what the right ones are to the errors.

    Args:
        errors: int64 [M], 0 to ``trials``.
        trials: int64 [M]; without any the bound is 0.
        delta: chance that a rate lies below its bound, within 0 to 1.

    Returns:
        float64 [M].
    """
    return np.asarray(1.0 - upper_bounds(trials - errors, trials, delta))


def clopper_pearson_upper(errors: int, trials: int, delta: float) -> float:
    """Returns one bound; see ``upper_bounds``."""
    return float(upper_bounds(np.array([errors]), np.array([trials]), delta)[0])


def fewest_trials(alpha: float, delta: float) -> int:
    """Returns how many trials without an error it takes until the bound is alpha.

    The smallest n with (1 - alpha)^n <= delta.
    """
    return math.ceil(math.log(delta) / math.log1p(-alpha))


def enough_trials(alpha: float, delta: float) -> int:
    """Returns how many trials it takes until a rate of half of alpha passes.

    The smallest n of which ceil(n * alpha / 2) errors have a bound of alpha at most. With fewer, a
    test says little of a rate that keeps the promise well.

    Args:
        alpha: bound on the rate, within 0 to 1.
        delta: chance that it does not hold, within 0 to 1.
    """
    first = fewest_trials(alpha, delta)
    while True:
        trials: NDArray[Any] = np.arange(first, first + TRIALS_AT_ONCE)
        errors = np.ceil(trials * alpha / 2).astype(np.int64)
        (passing,) = np.nonzero(upper_bounds(errors, trials, delta) <= alpha)
        if len(passing):
            return int(trials[passing[0]])
        first += TRIALS_AT_ONCE
