"""Exact bounds on a rate, and how many trials they take."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from cloud.certificate.bound import (
    clopper_pearson_upper,
    enough_trials,
    fewest_trials,
    lower_bounds,
    upper_bounds,
)


@given(st.integers(1, 2000), st.floats(0, 1), st.floats(0.001, 0.5))
def test_the_bounds_are_the_exact_one_sided_ones(n: int, share: float, delta: float) -> None:
    errors = round(share * n)
    upper = binomtest(errors, n, alternative="less").proportion_ci(1 - delta, method="exact").high
    lower = binomtest(errors, n, alternative="greater").proportion_ci(1 - delta, method="exact").low
    assert clopper_pearson_upper(errors, n, delta) == pytest.approx(upper, abs=1e-9)
    found = lower_bounds(np.array([errors]), np.array([n]), delta)
    assert found[0] == pytest.approx(lower, abs=1e-9)


def test_without_a_trial_nothing_is_known() -> None:
    assert clopper_pearson_upper(0, 0, 0.05) == 1.0
    assert lower_bounds(np.array([0]), np.array([0]), 0.05)[0] == 0.0


def test_without_an_error_the_bound_is_the_rule_of_three() -> None:
    # (1 - p)^n = delta
    assert clopper_pearson_upper(0, 100, 0.05) == pytest.approx(1 - 0.05 ** (1 / 100))


def test_where_all_are_errors_the_bound_is_one() -> None:
    assert upper_bounds(np.array([3, 0]), np.array([3, 3]), 0.05)[0] == 1.0


@pytest.mark.parametrize("alpha", [0.001, 0.02, 0.05, 0.3])
@pytest.mark.parametrize("delta", [0.01, 0.05, 0.2])
def test_with_the_fewest_trials_no_error_passes_and_with_one_less_it_does_not(
    alpha: float, delta: float
) -> None:
    n = fewest_trials(alpha, delta)
    assert clopper_pearson_upper(0, n, delta) <= alpha < clopper_pearson_upper(0, n - 1, delta)


@pytest.mark.parametrize("alpha", [0.001, 0.02, 0.05, 0.3])
def test_with_enough_trials_half_of_the_promised_risk_passes_and_with_fewer_it_does_not(
    alpha: float,
) -> None:
    def passes(n: int) -> bool:
        return clopper_pearson_upper(math.ceil(n * alpha / 2), n, 0.05) <= alpha

    n = enough_trials(alpha, 0.05)
    assert passes(n)
    assert not any(map(passes, range(fewest_trials(alpha, 0.05), n)))
