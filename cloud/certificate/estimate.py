"""Estimates from samples that came with unequal chances: weighted, with an honest interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from shared.scores import Flags

Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share of the traffic.

    Attributes:
        value: the estimate, 0 to 1; NaN where no sample speaks of it.
        lower: of the interval, 0 to 1.
        upper: of the interval, 0 to 1.
        n: samples that it rests on.
    """

    value: float
    lower: float
    upper: float
    n: int


def total(values: NDArray[Any], weights: Weights) -> float:
    """Returns the estimated sum of a value over all of the traffic.

    Horvitz and Thompson, Journal of the American Statistical Association 47(260), 1952: each value
    counts for one over its inclusion probability, which makes the sum unbiased.

    Args:
        values: [N], of the samples that came.
        weights: float64 [N], one over their inclusion probabilities.
    """
    return float(np.sum(values * weights))


def share(hits: Flags, weights: Weights, delta: float) -> Estimate:
    """Estimates the share of the traffic, or of a part of it, that is a hit.

    The value is the ratio of two Horvitz-Thompson sums, hits over all (Hajek, in Foundations of
    Statistical Inference, 1971, page 236); its bias is of the order of 1 / N.

    The interval is exact where all weights are equal (Clopper and Pearson, Biometrika 26(4), 1934)
    and rather too wide where they are not. A stratum of large weight in which no hit came may still
    have some; an interval from the variance of what came does not see that, and is far too short.
    So the sum of the hits and that of the others each get the gamma distributions by which Fay and
    Feuer (Statistics in Medicine 16(7), 1997) bound a weighted sum of Poisson counts, the upper one
    with one more sample of the largest weight. The two are put together as Fay, Proschan and
    Brittain do (Biometrics 71(1), 2015): the upper limit is a quantile of U / (U + L), of U, the
    upper distribution of the hits, and L, the lower one of the others, independent. With gammas of
    shapes a, b and scales s, t that is

        s x / (s x + t (1 - x)),    x the quantile of Beta(a, b),

    and for equal weights the quantile of Beta(hits + 1, others).

    Args:
        hits: bool [N].
        weights: float64 [N], one over the inclusion probabilities.
        delta: chance that the interval misses, half of it on either side.
    """
    if not len(hits):
        return Estimate(math.nan, 0.0, 1.0, 0)
    largest = float(weights.max())
    hit, other = _Sum.of(weights[hits]), _Sum.of(weights[~hits])
    return Estimate(
        value=hit.total / (hit.total + other.total),
        lower=1.0 - _upper(other.plus(largest), hit, delta / 2),
        upper=_upper(hit.plus(largest), other, delta / 2),
        n=len(hits),
    )


@dataclass(frozen=True, slots=True)
class _Sum:
    """A weighted sum of counts, and its variance if they are Poisson."""

    total: float
    variance: float

    @classmethod
    def of(cls, weights: Weights) -> _Sum:
        return cls(float(weights.sum()), float(np.square(weights).sum()))

    def plus(self, weight: float) -> _Sum:
        """Returns the sum with one more sample of a weight."""
        return _Sum(self.total + weight, self.variance + weight * weight)

    @property
    def shape(self) -> float:
        """Of the gamma distribution with this mean and variance."""
        return self.total * self.total / self.variance

    @property
    def scale(self) -> float:
        """Of the gamma distribution with this mean and variance."""
        return self.variance / self.total


def _upper(hits: _Sum, others: _Sum, delta: float) -> float:
    """Returns the 1 - delta quantile of the share of one gamma variable in the sum of two."""
    if others.total == 0:
        return 1.0
    x = float(betaincinv(hits.shape, others.shape, 1.0 - delta))
    scaled = hits.scale * x
    return scaled / (scaled + others.scale * (1.0 - x))
