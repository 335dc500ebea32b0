"""The threshold that is fallen back on is certified by what was seen, by the exact bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from shared.cascade.tightening import tightened
from shared.releases.evidence import is_below, least_total
from shared.scores import Flags, Floats

ALPHA, DELTA = 0.05, 0.1


def upper(bad: int, total: int, delta: float) -> float:
    """Clopper and Pearson's upper bound, by the quantile of the beta distribution."""
    return 1.0 if bad >= total else float(beta.ppf(1 - delta, bad + 1, total - bad))


@given(
    st.integers(1, 3000),
    st.floats(0, 0.3),
    st.sampled_from([0.005, 0.02, 0.1, 0.4]),
    st.sampled_from([0.01, 0.05, 0.2]),
)
def test_the_exact_test_is_that_of_clopper_and_pearson(
    total: int, share: float, limit: float, delta: float
) -> None:
    bad = int(share * total)
    bound = upper(bad, total, delta)
    if abs(bound - limit) > 1e-9:
        assert is_below(bad, total, limit, delta) == (bound <= limit)


@pytest.mark.parametrize("limit", [0.001, 0.01, 0.02, 0.05, 0.5])
@pytest.mark.parametrize("delta", [0.01, 0.05, 0.2])
def test_the_least_total_is_the_least_that_certifies(limit: float, delta: float) -> None:
    least = least_total(limit, delta)
    assert is_below(0, least, limit, delta)
    assert not is_below(0, least - 1, limit, delta)


def drawn(seed: int, count: int) -> tuple[Floats, Flags]:
    """Returns certainties, even in 0.5 to 1, and answers that disagree the more the less certain.

    The risk of what is accepted from a certainty t on is (1 - t) / 2.
    """
    rng = np.random.default_rng(seed)
    certainty = rng.uniform(0.5, 1.0, count).astype(np.float32)
    return certainty, rng.random(count) >= 1 - certainty


def test_what_it_returns_has_the_risk_that_it_certifies() -> None:
    runs, wrong, found = 400, 0, 0
    for seed in range(runs):
        threshold = tightened(*drawn(seed, 2000), alpha=ALPHA, delta=DELTA, above=0.5)
        if threshold is not None:
            found += 1
            wrong += (1 - threshold) / 2 > ALPHA
    assert found > 0.7 * runs
    # Of so many, three deviations above the promise are chance no longer.
    assert wrong <= runs * DELTA + 3 * (runs * DELTA * (1 - DELTA)) ** 0.5


def test_with_results_enough_it_is_hardly_stricter_than_it_must_be() -> None:
    found = [
        tightened(*drawn(seed, 40_000), alpha=ALPHA, delta=DELTA, above=0.5) for seed in range(9)
    ]
    assert sum(each is not None and 0.9 <= each < 0.93 for each in found) >= 6  # 0.9 is the best


def test_it_is_above_the_present_threshold_or_none() -> None:
    certainty, agrees = np.linspace(0.8, 0.9, 500, dtype=np.float32), np.ones(500, np.bool_)
    assert tightened(certainty, agrees, alpha=ALPHA, delta=DELTA, above=0.95) is None
    found = tightened(certainty, agrees, alpha=ALPHA, delta=DELTA, above=0.85)
    assert found is not None
    assert found > 0.85


def test_too_few_results_certify_nothing() -> None:
    few = least_total(ALPHA, DELTA) - 1
    certainty, agrees = np.linspace(0.8, 0.9, few, dtype=np.float32), np.ones(few, np.bool_)
    assert tightened(certainty, agrees, alpha=ALPHA, delta=DELTA, above=0.5) is None
    assert tightened(certainty[:0], agrees[:0], alpha=ALPHA, delta=DELTA, above=0.5) is None


def test_where_the_most_certain_are_wrong_nothing_is_certified() -> None:
    certainty, agrees = drawn(1, 2000)
    agrees[certainty > 0.98] = False
    assert tightened(certainty, agrees, alpha=ALPHA, delta=DELTA, above=0.5) is None


def test_all_that_are_as_certain_are_accepted_together() -> None:
    """A model that says 1.0 to everything has one threshold, and its risk is that of all."""
    certainty, agrees = np.ones(400, np.float32), np.ones(400, np.bool_)
    agrees[300:] = False
    assert tightened(certainty, agrees, alpha=ALPHA, delta=DELTA, above=0.5) is None
    assert tightened(certainty, ~agrees | True, alpha=ALPHA, delta=DELTA, above=0.5) == 1.0
