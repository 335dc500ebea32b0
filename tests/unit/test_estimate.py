"""Weighted estimates are unbiased, and their intervals honest."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from cloud.certificate.estimate import share, total
from tests.traffic import most_by_chance

DELTA = 0.05


def test_the_sum_is_unbiased_over_all_samples_that_could_have_come() -> None:
    values = np.array([3.0, -1.0, 4.0, 1.5])
    chances = np.array([0.1, 0.5, 0.9, 1.0])
    expected = 0.0
    for came in itertools.product([False, True], repeat=4):
        flags = np.array(came)
        likelihood = np.prod(np.where(flags, chances, 1 - chances))
        expected += likelihood * total(values[flags], 1 / chances[flags])
    assert expected == pytest.approx(values.sum())


def test_the_share_is_the_ratio_of_two_sums() -> None:
    hits, weights = np.array([True, False, True]), np.array([1.0, 10.0, 5.0])
    assert share(hits, weights, DELTA).value == pytest.approx(6 / 16)


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0.5, 1000))
def test_with_equal_weights_the_interval_is_the_exact_one(n: int, part: float, w: float) -> None:
    hits = np.arange(n) < round(part * n)
    found = share(hits, np.full(n, w), DELTA)
    exact = binomtest(int(hits.sum()), n).proportion_ci(1 - DELTA, method="exact")
    assert found.lower == pytest.approx(exact.low, abs=1e-9)
    assert found.upper == pytest.approx(exact.high, abs=1e-9)
    assert found.n == n


@given(st.lists(st.tuples(st.booleans(), st.floats(1, 1000)), min_size=1, max_size=50))
def test_the_estimate_lies_within_its_interval(samples: list[tuple[bool, float]]) -> None:
    hits, weights = np.array([each[0] for each in samples]), np.array([each[1] for each in samples])
    found = share(hits, weights, DELTA)
    assert 0 <= found.lower <= found.value <= found.upper <= 1


def test_hits_and_others_are_two_sides_of_one_estimate() -> None:
    rng = np.random.default_rng(1)
    hits, weights = rng.random(200) < 0.1, rng.choice([1.0, 20.0], 200)
    one, other = share(hits, weights, DELTA), share(~hits, weights, DELTA)
    assert (one.lower, one.value, one.upper) == pytest.approx(
        (1 - other.upper, 1 - other.value, 1 - other.lower)
    )


def test_of_no_sample_nothing_is_known() -> None:
    found = share(np.empty(0, bool), np.empty(0), DELTA)
    assert math.isnan(found.value)
    assert (found.lower, found.upper, found.n) == (0.0, 1.0, 0)


REDRAWS = 1000


@pytest.mark.parametrize(
    ("gated", "audit_share", "hard_risk", "easy_risk"),
    [
        pytest.param(5_000, 0.01, 0.3, 0.005, id="hardly-an-error-among-the-audited"),
        pytest.param(50_000, 0.01, 0.2, 0.02, id="much-traffic"),
        pytest.param(2_000, 0.1, 0.3, 0.02, id="much-audit"),
        pytest.param(5_000, 0.05, 0.01, 0.001, id="hardly-an-error-at-all"),
    ],
)
def test_the_interval_misses_no_more_often_than_it_says(
    gated: int, audit_share: float, hard_risk: float, easy_risk: float
) -> None:
    rng = np.random.default_rng(2)
    hard = rng.binomial(gated, 0.2, REDRAWS)
    easy = rng.binomial(gated - hard, audit_share)
    hard_errors, easy_errors = rng.binomial(hard, hard_risk), rng.binomial(easy, easy_risk)
    truth = 0.2 * hard_risk + 0.8 * easy_risk
    missed = missed_by_variance = missed_coverage = 0
    for n, m, x, y in zip(hard, easy, hard_errors, easy_errors, strict=True):
        weights = np.repeat([1.0, 1 / audit_share], [n, m])
        is_easy = np.arange(n + m) >= n
        errors = np.where(is_easy, np.arange(n + m) - n < y, np.arange(n + m) < x)
        found = share(errors, weights, DELTA)
        missed += not found.lower <= truth <= found.upper
        coverage = share(is_easy, weights, DELTA)
        missed_coverage += not coverage.lower <= 0.8 <= coverage.upper
        spread = 1.96 * np.sqrt(np.sum((weights * (errors - found.value)) ** 2)) / weights.sum()
        missed_by_variance += abs(found.value - truth) > spread
    assert max(missed, missed_coverage) <= most_by_chance(REDRAWS, DELTA)
    if easy_errors.mean() < 1:  # the case that the interval is made for
        assert missed_by_variance > most_by_chance(REDRAWS, DELTA)


def test_most_by_chance_is_what_a_fair_count_seldom_exceeds() -> None:
    most = most_by_chance(REDRAWS, DELTA)
    assert binom.sf(most, REDRAWS, DELTA) <= 1e-3 < binom.sf(most - 1, REDRAWS, DELTA)
