"""The budget bounds what is asked over any span of time, and remembers what was overdrawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cascade.budget import Bucket, Budget
from shared.cascade.config import BudgetConfig


def make(*, samples: int | None = None, in_bytes: int | None = None) -> Budget:
    return Budget(BudgetConfig(samples_per_minute=samples, bytes_per_minute=in_bytes))


def test_without_limits_it_covers_any_number() -> None:
    budget = make()
    budget.spend(10**9, 10**15)
    assert budget.covers(100, 0.0) is None
    assert budget.has_half(0.0)


def test_a_minutes_worth_may_be_spent_at_once_and_comes_back_evenly() -> None:
    budget = make(samples=60)
    assert budget.covers(100, 0.0) == 60
    budget.spend(60, 6000)
    assert budget.covers(100, 0.9) == 0
    assert budget.covers(100, 1.0) == 1
    assert budget.covers(100, 30.0) == 30
    assert budget.covers(100, 600.0) == 60


def test_bytes_are_counted_by_what_a_sample_takes() -> None:
    budget = make(in_bytes=1000)
    assert budget.covers(300, 0.0) == 3
    budget.spend(3, 900)
    assert budget.covers(300, 0.0) == 0
    assert budget.covers(300, 12.0) == 1


def test_of_two_limits_the_tighter_one_holds() -> None:
    assert make(samples=10, in_bytes=1000).covers(300, 0.0) == 3
    assert make(samples=2, in_bytes=1000).covers(300, 0.0) == 2


def test_a_debt_is_paid_off_before_anything_is_covered() -> None:
    budget = make(samples=60)
    assert budget.covers(1, 0.0) == 60
    budget.spend(70, 0)
    assert budget.covers(1, 10.0) == 0
    assert budget.covers(1, 11.0) == 1


def test_a_sample_that_is_dearer_than_a_minute_needs_a_full_one() -> None:
    budget = make(in_bytes=600)
    assert budget.covers(900, 0.0) == 1
    budget.spend(1, 900)
    assert budget.covers(900, 89.0) == 0
    assert budget.covers(900, 90.0) == 1


def test_what_was_not_sent_is_put_back() -> None:
    budget = make(samples=10)
    assert budget.covers(1, 0.0) == 10
    budget.spend(10, 0)
    budget.spend(-4, 0)
    assert budget.covers(1, 0.0) == 4
    budget.spend(-100, 0)
    assert budget.covers(1, 0.0) == 10


@pytest.mark.parametrize(("spent", "half"), [(5, True), (6, False)], ids=["half", "less"])
def test_it_tells_whether_half_is_left(spent: int, half: bool) -> None:
    budget = make(samples=10, in_bytes=10_000)
    budget.covers(1, 0.0)
    budget.spend(spent, 0)
    assert budget.has_half(0.0) is half


def test_a_clock_that_stands_or_steps_back_brings_nothing() -> None:
    bucket = Bucket(60)
    bucket.fill(10.0)
    bucket.spend(60)
    for now_s in (10.0, 5.0, 10.0):
        bucket.fill(now_s)
    assert bucket.covers(1) == 0


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 200)), max_size=40))
def test_over_any_time_no_more_is_covered_than_came_in(
    steps: list[tuple[float, int]],
) -> None:
    budget, now_s, asked = make(samples=60), 0.0, 0
    for passed_s, wanted in steps:
        now_s += passed_s
        covered = budget.covers(1, now_s)
        assert covered is not None
        asked += min(wanted, covered)
        budget.spend(min(wanted, covered), 0)
        assert asked <= 60 + now_s + 1e-6
