"""Noise is no evidence however often one looks, and what is really bad soon is."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.releases.evidence import highest, is_above, log_evidence

SHARES = st.floats(0.01, 0.95)


def first_alarm(seed: int, share: float, limit: float, false_alarm: float, most: int) -> int | None:
    """Returns after how many samples it is sure, if it looks after each; None if it never is."""
    rng, bad = random.Random(seed), 0
    for total in range(1, most + 1):
        bad += rng.random() < share
        if is_above(bad, total, limit, false_alarm):
            return total
    return None


@pytest.mark.parametrize("limit", [0.05, 0.3, 0.8])
def test_a_share_at_its_limit_gives_no_more_false_alarms_than_promised(limit: float) -> None:
    alarms = [first_alarm(seed, limit, limit, 0.05, 300) for seed in range(400)]
    assert sum(alarm is not None for alarm in alarms) <= 0.05 * 400


@pytest.mark.parametrize(
    ("share", "limit", "soon"), [(1.0, 0.1, 10), (0.95, 0.33, 30), (0.61, 0.33, 150)]
)
def test_a_share_far_above_its_limit_is_told_soon(share: float, limit: float, soon: int) -> None:
    for seed in range(50):
        alarm = first_alarm(seed, share, limit, 1e-4, soon)
        assert alarm is not None, f"seed {seed}"


def test_three_bad_ones_prove_nothing_yet() -> None:
    assert not is_above(3, 3, 0.1, 1e-4)


@pytest.mark.parametrize("limit", [0.999, 1.0, 1.5])
def test_above_a_limit_of_everything_there_is_nothing(limit: float) -> None:
    assert not is_above(1000, 1000, limit, 1e-4)


def test_with_a_limit_of_nothing_a_single_bad_one_is_told_from_many() -> None:
    assert is_above(20, 20, 0.0, 1e-4)
    assert not is_above(0, 20, 0.0, 1e-4)


def test_the_evidence_is_that_of_a_coin_thrown_by_hand() -> None:
    # One bad of one: the mean of p / limit over the alternatives, which lie evenly in (limit, 1).
    assert log_evidence(1, 1, 0.5) == pytest.approx(0.4054651)  # log(0.75 / 0.5)


@given(st.integers(0, 500), st.integers(0, 500), SHARES)
def test_the_evidence_grows_with_what_is_bad(bad: int, good: int, limit: float) -> None:
    total = bad + good + 1
    assert log_evidence(bad + 1, total, limit) >= log_evidence(bad, total, limit)


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_highest_share_is_above_the_counted_one_and_at_most_all(bad: int, good: int) -> None:
    total = bad + good
    assert (bad / total if total else 1.0) <= highest(bad, total) + 1e-12
    assert highest(bad, total) <= 1.0


def test_of_nothing_any_share_may_be_true() -> None:
    assert highest(0, 0) == 1.0


def test_the_highest_share_comes_down_to_the_counted_one() -> None:
    bounds = [highest(count // 5, count) for count in (10, 100, 1000, 100_000)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] == pytest.approx(0.2, abs=0.005)
