"""Calibrates the gate: a temperature, and a threshold with a certificate. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import beta

from shared.model_spec import Calibration, Certificate
from shared.scores import probabilities

Real = NDArray[np.floating[Any]]

COVERAGES = np.arange(60, 101, 2) / 100.0
"""Shares of the tuning samples that the grid's thresholds accept, strictest first. Fixed before
any data is seen."""

TEMPERATURES = (0.5, 100.0)
"""Bounds of the temperature. Without the lower one, tuning samples that are all answered rightly
drive it to 0 and every confidence to 1, and no threshold can tell the samples apart any more."""

NOTHING_ACCEPTED = 2.0
"""A threshold above every confidence: where nothing can be certified, everything escalates."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a certificate is to say.

    Attributes:
        alpha: bound on P(tier-1 disagrees with tier-2 | accepted), 0 to 1.
        delta: chance that the bound does not hold, 0 to 1.
        escalation_budget: share of the traffic that tier-2 can take, 0 to 1. It is spent on
            accuracy; where the certificate demands more, more is escalated.
    """

    alpha: float
    delta: float
    escalation_budget: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A threshold that holds the promise."""

    threshold: float
    certificate: Certificate


def fit_temperature(logits: Real, labels: NDArray[np.int64]) -> float:
    """Returns the temperature, within ``TEMPERATURES``, of least negative log-likelihood.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599, section 4.2.

    Args:
        logits: float [N, labels], N at least 1, of the artefact that is deployed.
        labels: int64 [N].
    """
    rows, scores = np.arange(len(labels)), logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(scores / np.exp(log_temperature), axis=1)
        return -float(scaled[rows, labels].mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


def clopper_pearson_upper(errors: int, n: int, delta: float) -> float:
    """Returns the exact one-sided upper confidence bound on a binomial rate.

    Clopper and Pearson, Biometrika 26(4), 1934: the 1 - delta quantile of
    Beta(errors + 1, n - errors).

    Args:
        errors: errors seen, 0 to n.
        n: trials; with none the bound is 1.
        delta: chance that the rate exceeds the bound, 0 to 1.
    """
    return 1.0 if errors >= n else float(beta.ppf(1.0 - delta, errors + 1, n - errors))


def threshold_grid(tuning_confidence: Real) -> NDArray[np.float64]:
    """Returns thresholds, strictest first, that accept ``COVERAGES`` of the tuning samples.

    Args:
        tuning_confidence: float [N], of samples that take no part in ``certified``.
    """
    return np.asarray(np.quantile(tuning_confidence, 1.0 - COVERAGES))


def certified(
    confidence: Real, agrees: NDArray[np.bool_], thresholds: Real, promise: Promise
) -> list[Candidate]:
    """Tests thresholds in their order and returns those before the first failure.

    Fixed-sequence testing, Angelopoulos et al., Learn then Test, arXiv 2110.01052, section 2.2:
    each hypothesis "the risk exceeds alpha" is tested at level delta by an exact binomial bound.
    All that are returned hold at once with probability 1 - delta, so any may be chosen afterwards.

    Args:
        confidence: float [N], of samples that no model, temperature or grid was fitted to.
        agrees: bool [N], whether both tiers give the same label.
        thresholds: float [M], strictest first, chosen without these samples.
        promise: what to certify.
    """
    passed = []
    for threshold in thresholds:
        accepted = confidence >= threshold
        n, errors = int(accepted.sum()), int((accepted & ~agrees).sum())
        bound = clopper_pearson_upper(errors, n, promise.delta)
        if bound > promise.alpha:
            break
        coverage = n / len(confidence)
        certificate = Certificate(promise.alpha, promise.delta, n, errors, coverage, bound)
        passed.append(Candidate(float(threshold), certificate))
    return passed


def choose(candidates: Sequence[Candidate], escalation_budget: float) -> Candidate | None:
    """Returns the strictest threshold within the budget, else the one that escalates least.

    Args:
        candidates: as ``certified`` returns them.
        escalation_budget: share of the traffic, 0 to 1.
    """
    within = [
        candidate
        for candidate in candidates
        if 1.0 - candidate.certificate.coverage <= escalation_budget
    ]
    if within:
        return within[0]
    return candidates[-1] if candidates else None


def calibrate(
    logits: Real, tier2_labels: NDArray[np.int64], tuning: int, promise: Promise
) -> Calibration:
    """Fits temperature and threshold of a tier-1 artefact.

    Args:
        logits: float [N, labels] of the artefact that is deployed, on held-out inputs in order.
        tier2_labels: int64 [N], what tier-2 answers to them.
        tuning: the first so many fit temperature and grid; the others only certify.
        promise: what to certify.

    Returns:
        The calibration; without a certificate, one that accepts nothing.
    """
    temperature = fit_temperature(logits[:tuning], tier2_labels[:tuning])
    scores = probabilities(logits.astype(np.float32), "logits", temperature)
    confidence, agrees = scores.max(axis=1), scores.argmax(axis=1) == tier2_labels
    grid = threshold_grid(confidence[:tuning])
    passed = certified(confidence[tuning:], agrees[tuning:], grid, promise)
    chosen = choose(passed, promise.escalation_budget)
    if chosen is None:
        return Calibration(temperature, NOTHING_ACCEPTED)
    return Calibration(temperature, chosen.threshold, chosen.certificate)
