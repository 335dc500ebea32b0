"""How often tier-2 agrees with what tier-1 accepts: without labels, and by the audit. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from cloud.certificate.estimate import Estimate, Weights, share
from cloud.watching.finding import Finding
from cloud.watching.risen_mean import RisenMean
from cloud.watching.series import Audited
from shared.scores import Flags

WINDOW = 1000
DELTA = 0.05
"""Chance that an interval misses."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often tier-2 agrees with what tier-1 accepts, estimated in two ways.

    The first needs no answer of tier-2, and does not see when inputs begin to mean something else;
    the audit does. Where they part, that is what has happened.

    Attributes:
        expected: by tier-1's confidence.
        audited: by tier-2's answers.
    """

    expected: Estimate
    audited: Estimate

    def in_words(self) -> str:
        """Returns both, with their intervals."""
        one, other = self.expected, self.audited
        return (
            f"of the last {other.n} audited inputs that tier-1 accepted, tier-2 agrees with "
            f"{other.value:.1%} ({other.lower:.1%} to {other.upper:.1%}) where tier-1's confidence "
            f"says {one.value:.1%} ({one.lower:.1%} to {one.upper:.1%})"
        )


def agreement(samples: Sequence[Audited], delta: float = DELTA) -> Agreement:
    """Estimates how often tier-2 agrees, each sample counting for one over its chance.

    Args:
        samples: of what tier-1 accepted.
        delta: chance that an interval misses, half of it on either side.
    """
    weights = 1.0 / np.array([each.chance for each in samples], np.float64)
    confidences = np.array([each.confidence for each in samples], np.float64)
    agrees: Flags = np.array([each.agrees for each in samples], bool)
    return Agreement(expected_agreement(confidences, weights, delta), share(agrees, weights, delta))


def expected_agreement(confidences: Weights, weights: Weights, delta: float) -> Estimate:
    """Estimates the agreement by the mean calibrated confidence.

    The temperature is fitted on tier-2's answers, so that a confidence is the chance of its
    agreement, and their mean the expected share (confidence-based performance estimation: Bialek,
    Kivimaki, Kuberski and Perrakis, Estimating model performance under covariate shift without
    labels, arXiv 2401.08348; Guillory et al., Predicting with confidence on unseen distributions,
    ICCV 2021, arXiv 2107.03315). It holds when other inputs come, as long as each confidence still
    means what it meant.

    The interval is Student's, with the linearized variance of a ratio of two weighted sums
    (Sarndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992, section 5.7). It speaks of
    which inputs were drawn, not of how well the confidence is calibrated.

    Args:
        confidences: float64 [N], 0 to 1.
        weights: float64 [N], one over the inclusion probabilities.
        delta: chance that the interval misses, half of it on either side.
    """
    n = len(confidences)
    if n < 2:
        return Estimate(float(confidences.mean()) if n else math.nan, 0.0, 1.0, n)
    shares = weights / weights.sum()
    mean = float(shares @ confidences)
    variance = float(np.square(shares * (confidences - mean)).sum()) * n / (n - 1)
    reach = float(student.ppf(1.0 - delta / 2, n - 1)) * math.sqrt(variance)
    return Estimate(mean, max(0.0, mean - reach), min(1.0, mean + reach), n)


class CertifiedRisk:
    """Holds the audit against the certified bound on P(tier-2 disagrees | accepted).

    Args:
        alpha: the bound, 0 to 1.
        run: audited samples until a false alarm, on average, at least.
    """

    def __init__(self, alpha: float, run: float) -> None:
        self._alpha = alpha
        self._test = RisenMean(alpha, run)
        self._window: deque[bool] = deque(maxlen=WINDOW)

    def add(self, item: Audited) -> Finding | None:
        """Takes a sample; says so once tier-2 disagrees more often than was certified."""
        self._window.append(item.agrees)
        if not self._test.add(float(not item.agrees)):
            return None
        n = len(self._window)
        return Finding(
            "risk",
            f"tier-2 disagrees with {1 - sum(self._window) / n:.1%} of the last {n} audited inputs "
            f"that tier-1 accepted, where at most {self._alpha:.1%} were certified",
        )


class Calibration:
    """Holds the audit against tier-1's confidence, sample by sample.

    What is tested is confidence minus agreement, of the same sample: as long as a confidence means
    what it meant, its mean is the gap of the reference, whatever inputs come. Its own test needs no
    interval of either mean, and does not tire of looking.

    Args:
        gap: how much less often tier-2 agreed in the reference than the confidence said, 0 to 1.
        margin: so much more is no alarm, 0 to 1.
        run: audited samples until a false alarm, on average, at least.
    """

    def __init__(self, gap: float, margin: float, run: float) -> None:
        self._test = RisenMean(min(1.0, gap + margin), run)
        self._window: deque[Audited] = deque(maxlen=WINDOW)

    def add(self, item: Audited) -> Finding | None:
        """Takes a sample; says so once the two have parted."""
        self._window.append(item)
        if not self._test.add(item.confidence - item.agrees):
            return None
        return Finding("calibration", agreement(self._window).in_words())
