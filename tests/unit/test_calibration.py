"""Temperature, grid and choice: a calibration promises what it may, or says why it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from cloud.certificate.calibration import NOTHING_ACCEPTED, calibrate, choose
from cloud.certificate.grid import COVERAGES, Grid
from cloud.certificate.promise import Promise
from cloud.certificate.sequence import Candidate
from cloud.certificate.temperature import TEMPERATURES, fit_temperature
from shared.model_spec import Certificate
from shared.scores import probabilities

PROMISE = Promise(alpha=0.1, delta=0.1, escalation_budget=0.3)


def drawn(
    rng: np.random.Generator, n: int, temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns logits, and labels drawn from the softmax of logits over a temperature."""
    logits = rng.normal(0.0, 4.0, (n, 5))
    chances = softmax(logits / temperature, axis=1)
    labels = (rng.random((n, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    return logits, np.minimum(labels, 4).astype(np.int64)


# Temperature


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


# Grid


def test_the_grid_accepts_its_coverages_of_the_tuning_samples_strictest_first() -> None:
    certainty = np.random.default_rng(3).random(10_001).astype(np.float32)
    grid = Grid.of(certainty)
    assert (np.diff(grid.thresholds) < 0).all()
    coverage = [(certainty >= np.float32(threshold)).mean() for threshold in grid.thresholds]
    assert coverage == pytest.approx(COVERAGES, abs=2e-4)
    assert grid.coverages == pytest.approx(coverage, abs=1e-12)


def test_malformed_scores_are_no_part_of_the_grid() -> None:
    sound = np.random.default_rng(3).random(101).astype(np.float32)
    broken = np.full(50, np.nan, np.float32)
    found, expected = Grid.of(np.concatenate([broken, sound])), Grid.of(sound)
    assert found.thresholds.tolist() == expected.thresholds.tolist()
    assert len(Grid.of(broken)) == 0


def test_equal_certainties_make_one_threshold() -> None:
    grid = Grid.of(np.array([0.9, 1.0, 1.0, 1.0, 1.0], np.float32))
    assert grid.thresholds[0] == 1.0
    assert grid.coverages[0] == pytest.approx(0.8)
    assert (np.diff(grid.thresholds) < 0).all()


def test_a_threshold_more_takes_its_place_unless_it_would_be_the_strictest() -> None:
    certainty = np.linspace(0, 1, 1001, dtype=np.float32)
    grid = Grid.of(certainty, also=[0.123456789, 0.99])
    assert float(np.float32(0.123456789)) in grid.thresholds
    assert grid.thresholds.max() == pytest.approx(1 - COVERAGES[0])
    assert (np.diff(grid.thresholds) < 0).all()
    assert (np.diff(grid.coverages) > 0).all()


# Choice


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


# Calibration


def test_where_nothing_can_be_certified_nothing_is_accepted_and_it_says_why() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(0.0, 4.0, (400, 5))
    calibration = calibrate(logits, rng.integers(0, 5, 400), 100, PROMISE)
    assert calibration.certificate is None
    assert calibration.threshold == NOTHING_ACCEPTED
    assert "cannot be certified with any threshold: at threshold 0." in calibration.reason
    assert "accepted samples otherwise" in calibration.reason
    confidence = probabilities(logits.astype(np.float32), "logits", calibration.temperature)
    assert not (confidence >= calibration.threshold).any()


def test_what_is_certified_gives_no_reason() -> None:
    logits, labels = drawn(np.random.default_rng(5), 1000, 1.0)
    calibration = calibrate(logits, labels, 400, PROMISE)
    assert calibration.certificate is not None
    assert calibration.reason == ""


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


def test_labels_of_people_are_held_against_the_same_samples() -> None:
    logits, labels = drawn(np.random.default_rng(5), 1000, 1.0)
    people = np.where(np.arange(1000) % 2, labels, -1)
    agreeing = calibrate(logits, labels, 400, PROMISE, people).certificate
    assert agreeing is not None
    assert agreeing.labelled == pytest.approx(agreeing.n / 2, abs=30)
    people[401::2] = (labels[401::2] + 1) % 5
    denying = calibrate(logits, labels, 400, PROMISE, people)
    assert denying.certificate is None
    assert "people's labels contradict" in denying.reason
