"""A tier that does not answer is left alone, tried one sample at a time, and asked again."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cascade.breaker import TRANSITIONS, Breaker, Event, State
from shared.cascade.config import BreakerConfig

CONFIG = BreakerConfig(failures=3, retry_s=1.0, max_retry_s=5.0)
SLOWEST = 1.0
"""A draw of (almost) 1 leaves the delays as they are."""


def make(draw: float = SLOWEST) -> Breaker:
    return Breaker(CONFIG, lambda: draw)


def opened(draw: float = SLOWEST) -> Breaker:
    """A breaker that opened at 3.0 s."""
    breaker = make(draw)
    for asked_s in (1.0, 2.0, 3.0):
        breaker.missed(int(asked_s), asked_s, asked_s)
    return breaker


def half_open() -> Breaker:
    """A breaker whose probe is number 10, asked at 4.0 s."""
    breaker = opened()
    assert breaker.poll(4.0) is State.HALF_OPEN
    breaker.asked(10)
    return breaker


def test_misses_in_a_row_open_it() -> None:
    breaker = make()
    for asked_s in (1.0, 2.0):
        breaker.missed(int(asked_s), asked_s, asked_s)
        assert breaker.state is State.CLOSED
    breaker.missed(3, 3.0, 3.0)
    assert breaker.state is State.OPEN


def test_an_answer_in_time_begins_the_count_anew() -> None:
    breaker = make()
    for number in range(10):
        breaker.missed(number, float(number), float(number))
        if number % 2:
            breaker.answered(100 + number, float(number))
    assert breaker.state is State.CLOSED


def test_the_questions_of_one_message_are_one_miss() -> None:
    breaker = make()
    for number in range(32):
        breaker.missed(number, 1.0, 1.5)
    assert breaker.state is State.CLOSED


def test_it_waits_for_its_delay_and_then_lets_one_probe_through() -> None:
    breaker = opened()
    assert [breaker.poll(now_s) for now_s in (3.999, 4.0)] == [State.OPEN, State.HALF_OPEN]
    assert not breaker.probing
    breaker.asked(10)
    assert breaker.probing


def test_the_probes_answer_closes_it() -> None:
    breaker = half_open()
    breaker.answered(10, 4.1)
    assert breaker.state is State.CLOSED
    assert not breaker.probing


def test_a_probe_that_is_missed_opens_it_again_for_longer() -> None:
    breaker = half_open()
    breaker.missed(10, 4.0, 4.5)
    assert [breaker.poll(now_s) for now_s in (6.499, 6.5)] == [State.OPEN, State.HALF_OPEN]


def test_the_delay_doubles_up_to_its_cap_and_is_short_again_after_an_answer() -> None:
    breaker, now_s, delays = opened(), 3.0, []
    for probe in range(10, 15):
        delay_s = next(step / 10 for step in itertools.count() if _is_due(breaker, now_s, step))
        delays.append(delay_s)
        now_s += delay_s
        breaker.asked(probe)
        breaker.missed(probe, now_s, now_s)
    assert delays == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert breaker.poll(now_s + 5.0) is State.HALF_OPEN
    breaker.asked(20)
    breaker.answered(20, now_s + 5.0)
    for number in range(3):
        asked_s = now_s + 6.0 + number
        breaker.missed(30 + number, asked_s, asked_s)
    around = (asked_s + 0.999, asked_s + 1.0)
    assert [breaker.poll(each_s) for each_s in around] == [State.OPEN, State.HALF_OPEN]


def _is_due(breaker: Breaker, now_s: float, step: int) -> bool:
    return breaker.poll(now_s + step / 10) is State.HALF_OPEN


@pytest.mark.parametrize(("draw", "delay_s"), [(0.0, 0.5), (0.5, 0.75)], ids=["least", "middle"])
def test_the_delay_is_jittered_down_to_half(draw: float, delay_s: float) -> None:
    breaker = opened(draw)
    around = (3.0 + delay_s - 0.001, 3.0 + delay_s)
    assert [breaker.poll(now_s) for now_s in around] == [State.OPEN, State.HALF_OPEN]


def test_no_answer_to_what_was_asked_before_closes_it() -> None:
    breaker = opened()
    breaker.answered(2, 3.5)
    assert breaker.poll(4.0) is State.HALF_OPEN
    breaker.asked(10)
    breaker.answered(2, 4.1)
    assert breaker.probing


def test_a_miss_of_what_was_asked_before_is_not_the_probes() -> None:
    breaker = half_open()
    breaker.missed(4, 3.1, 4.2)
    assert breaker.state is State.HALF_OPEN
    assert breaker.probing


def test_what_was_asked_before_it_closed_does_not_open_it_again() -> None:
    breaker = half_open()
    breaker.answered(10, 4.1)
    for number, asked_s in enumerate((3.1, 3.2, 3.3, 3.4)):
        breaker.missed(number, asked_s, 5.0)
    assert breaker.state is State.CLOSED


def test_a_probe_that_was_never_sent_leaves_its_place_to_the_next() -> None:
    breaker = half_open()
    breaker.withdrawn(10)
    assert not breaker.probing
    breaker.asked(11)
    breaker.answered(11, 4.2)
    assert breaker.state is State.CLOSED


def test_every_state_but_closed_is_left_by_time_or_a_probe() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)


@given(st.lists(st.sampled_from(["ask", "answer", "miss", "withdraw", "wait"]), max_size=60))
def test_no_course_of_events_is_illegal_or_lets_two_probes_through(events: list[str]) -> None:
    breaker, now_s, waiting, number = make(), 0.0, dict[int, float](), 0
    for event in events:
        state = breaker.poll(now_s)
        may_ask = state is State.CLOSED or (state is State.HALF_OPEN and not breaker.probing)
        if event == "ask" and may_ask:
            number += 1
            breaker.asked(number)
            waiting[number] = now_s
        elif event == "wait":
            now_s += 0.7
        elif waiting and event != "ask":
            first = next(iter(waiting))
            asked_s = waiting.pop(first)
            if event == "answer":
                breaker.answered(first, now_s)
            elif event == "miss":
                breaker.missed(first, asked_s, now_s)
            else:
                breaker.withdrawn(first)
        assert not breaker.probing or breaker.state is State.HALF_OPEN
