"""A worker that ends is started again, ever more slowly while it keeps ending."""

from __future__ import annotations

import random

import pytest

from shared.workers.restarts import FIRST_DELAY_S, MAX_DELAY_S, STEADY_S, Restarts, Verdict
from shared.workers.worker import Worker

SIGKILL = -9


class Highest(random.Random):
    """Draws the upper end of every range."""

    def uniform(self, a: float, b: float) -> float:
        """Returns the upper end."""
        return b


def restarts(index: int = 0, rng: random.Random | None = None) -> Restarts:
    return Restarts(Worker(index, 2), rng or Highest())


@pytest.mark.parametrize("code", [0, 1, 2, SIGKILL])
def test_a_worker_that_ends_after_its_first_life_is_started_again(code: int) -> None:
    under_test = restarts()
    under_test.ended(SIGKILL, 5.0)
    assert under_test.ended(code, 5.0) is Verdict.START_AGAIN


@pytest.mark.parametrize("code", [0, SIGKILL], ids=["stopped-by-somebody", "killed"])
def test_a_first_life_that_ends_without_an_error_is_followed_by_another(code: int) -> None:
    assert restarts().ended(code, 0.1) is Verdict.START_AGAIN


def test_a_node_whose_worker_cannot_even_start_gives_up_as_it_would_without_workers() -> None:
    assert restarts().ended(1, 0.3) is Verdict.GIVE_UP


def test_a_first_life_that_was_long_had_started_well() -> None:
    assert restarts().ended(1, STEADY_S) is Verdict.START_AGAIN


def test_the_delay_doubles_up_to_a_cap() -> None:
    under_test = restarts()
    delays = []
    for _ in range(20):
        under_test.ended(SIGKILL, 1.0)
        delays.append(under_test.delay_s())
    assert delays[:4] == pytest.approx([FIRST_DELAY_S * factor for factor in (1, 2, 4, 8)])
    assert delays[-1] == MAX_DELAY_S


def test_a_long_life_makes_the_delay_short_again() -> None:
    under_test = restarts()
    for _ in range(10):
        under_test.ended(SIGKILL, 1.0)
    under_test.ended(SIGKILL, STEADY_S)
    assert under_test.delay_s() == pytest.approx(FIRST_DELAY_S)


def test_the_delay_is_jittered_by_half() -> None:
    under_test = restarts(rng=random.Random(1))
    under_test.ended(SIGKILL, 1.0)
    delays = [under_test.delay_s() for _ in range(200)]
    assert FIRST_DELAY_S / 2 <= min(delays) < 0.6 * FIRST_DELAY_S
    assert 0.9 * FIRST_DELAY_S < max(delays) <= FIRST_DELAY_S


def test_a_worker_that_has_left_is_done() -> None:
    assert restarts(index=2).ended(0, 3.0) is Verdict.DONE


@pytest.mark.parametrize("code", [1, SIGKILL])
def test_a_worker_that_could_not_leave_tries_again(code: int) -> None:
    assert restarts(index=2).ended(code, 3.0) is Verdict.START_AGAIN
