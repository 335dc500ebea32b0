"""The certificate says what the statistics allow, and no more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import binomtest

from cloud.certify import (
    COVERAGES,
    NOTHING_ACCEPTED,
    TEMPERATURES,
    Candidate,
    Promise,
    calibrate,
    certified,
    choose,
    clopper_pearson_upper,
    fit_temperature,
    threshold_grid,
)
from shared.model_spec import Certificate
from shared.scores import probabilities

PROMISE = Promise(alpha=0.1, delta=0.1, escalation_budget=0.3)


@given(st.integers(1, 2000), st.floats(0, 1), st.floats(0.001, 0.5))
def test_the_bound_is_the_exact_one_sided_one(n: int, share: float, delta: float) -> None:
    errors = round(share * n)
    exact = binomtest(errors, n, alternative="less").proportion_ci(1 - delta, method="exact").high
    assert clopper_pearson_upper(errors, n, delta) == pytest.approx(exact, abs=1e-9)


def test_without_a_trial_nothing_is_known() -> None:
    assert clopper_pearson_upper(0, 0, 0.05) == 1.0


def test_without_an_error_the_bound_is_the_rule_of_three() -> None:
    # (1 - p)^n = delta
    assert clopper_pearson_upper(0, 100, 0.05) == pytest.approx(1 - 0.05 ** (1 / 100))


def drawn(
    rng: np.random.Generator, n: int, temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns logits, and labels drawn from the softmax of logits over a temperature."""
    logits = rng.normal(0.0, 4.0, (n, 5))
    chances = softmax(logits / temperature, axis=1)
    labels = (rng.random((n, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    return logits, np.minimum(labels, 4).astype(np.int64)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.5])
def test_a_known_temperature_is_found_again(temperature: float) -> None:
    logits, labels = drawn(np.random.default_rng(1), 20_000, temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_samples_that_are_all_right_do_not_drive_the_temperature_out_of_its_bounds() -> None:
    logits = np.eye(5)[np.arange(50) % 5] * 3
    temperature = fit_temperature(logits, np.arange(50) % 5)
    assert TEMPERATURES[0] <= temperature < 0.51


def test_labels_that_have_nothing_to_do_with_the_scores_make_it_hot() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0.0, 4.0, (500, 5))
    assert fit_temperature(logits, rng.integers(0, 5, 500)) > 10


def test_the_grid_accepts_its_coverages_of_the_tuning_samples_strictest_first() -> None:
    confidence = np.random.default_rng(3).random(10_001)
    grid = threshold_grid(confidence)
    assert (np.diff(grid) <= 0).all()
    coverage = [(confidence >= threshold).mean() for threshold in grid]
    assert coverage == pytest.approx(COVERAGES, abs=2e-4)


def test_testing_stops_at_the_first_failure_though_a_later_one_would_pass() -> None:
    # Between 0.8 and 0.9 all are wrong, below 0.8 all are right: laxer thresholds recover.
    confidence = np.concatenate([np.full(100, 0.95), np.full(30, 0.85), np.full(2000, 0.5)])
    agrees = np.concatenate([np.full(100, True), np.full(30, False), np.full(2000, True)])
    thresholds = np.array([0.9, 0.8, 0.4])
    passed = certified(confidence, agrees, thresholds, PROMISE)
    assert [candidate.threshold for candidate in passed] == [0.9]
    alone = certified(confidence, agrees, thresholds[2:], PROMISE)
    assert [candidate.threshold for candidate in alone] == [0.4]


def test_a_certificate_says_what_was_seen() -> None:
    confidence = np.linspace(0, 1, 200, endpoint=False)
    agrees = confidence >= 0.02
    (candidate,) = certified(confidence, agrees, np.array([0.0]), PROMISE)
    certificate = candidate.certificate
    assert (certificate.n, certificate.disagreements) == (200, 4)
    assert certificate.coverage == 1.0
    assert certificate.bound == clopper_pearson_upper(4, 200, PROMISE.delta) <= PROMISE.alpha


def test_too_few_samples_certify_nothing() -> None:
    confidence = np.full(10, 0.9)
    assert certified(confidence, np.full(10, True), np.array([0.5]), PROMISE) == []


def candidate(coverage: float) -> Candidate:
    certificate = Certificate(0.1, 0.1, 100, 0, coverage, 0.03)
    return Candidate(1 - coverage, certificate)


def test_the_strictest_within_the_budget_is_chosen() -> None:
    passed = [candidate(coverage) for coverage in (0.6, 0.75, 0.9)]
    assert choose(passed, 0.3) is passed[1]


def test_past_the_budget_the_one_that_escalates_least_is_chosen() -> None:
    passed = [candidate(coverage) for coverage in (0.6, 0.65)]
    assert choose(passed, 0.3) is passed[1]
    assert choose([], 0.3) is None


def test_where_nothing_can_be_certified_nothing_is_accepted() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(0.0, 4.0, (400, 5))
    calibration = calibrate(logits, rng.integers(0, 5, 400), 100, PROMISE)
    assert calibration.certificate is None
    assert calibration.threshold == NOTHING_ACCEPTED
    confidence = probabilities(logits.astype(np.float32), "logits", calibration.temperature)
    assert not (confidence >= calibration.threshold).any()


def test_the_samples_that_tune_do_not_certify() -> None:
    logits, labels = drawn(np.random.default_rng(5), 1000, 1.0)
    one = calibrate(logits, labels, 400, PROMISE)
    changed = labels.copy()
    changed[400:] = (logits[400:].argmin(axis=1)).astype(np.int64)
    other = calibrate(logits, changed, 400, PROMISE)
    assert one.temperature == other.temperature
    assert one.certificate is not None
    assert one.certificate.n <= 600
    assert other.certificate is None


def test_the_bound_is_violated_in_at_most_delta_of_redraws() -> None:
    rng = np.random.default_rng(6)
    everyone, labels = drawn(rng, 20_000, 1.0)
    delta, redraws, violations, certificates = 0.1, 400, 0, 0
    promise = Promise(alpha=0.15, delta=delta, escalation_budget=0.1)
    wrong = everyone.argmax(axis=1) != labels
    for _ in range(redraws):
        rows = rng.integers(0, len(labels), 500)
        calibration = calibrate(everyone[rows], labels[rows], 125, promise)
        if calibration.certificate is None:
            continue
        certificates += 1
        scores = probabilities(everyone.astype(np.float32), "logits", calibration.temperature)
        accepted = scores.max(axis=1) >= calibration.threshold
        violations += bool(wrong[accepted].mean() > promise.alpha)
    # Three standard errors of a share of delta over so many redraws.
    allowed = redraws * (delta + 3 * np.sqrt(delta * (1 - delta) / redraws))
    assert certificates > redraws / 4
    assert violations <= allowed
