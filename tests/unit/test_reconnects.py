"""Attempts to connect back off, jittered and capped; only a long connection ends the series."""

from __future__ import annotations

import random

import pytest

from shared.mqtt.reconnects import (
    FIRST_DELAY_S,
    MAX_DELAY_S,
    PEACEFUL_S,
    SLOW_DELAY_S,
    STEADY_S,
    Reconnects,
)


def delay_s(reconnects: Reconnects, now_s: float, *, slow: bool = False) -> float:
    reconnects.failed(now_s, slow=slow)
    return reconnects.due_s - now_s


def test_the_first_attempt_is_due_at_once() -> None:
    assert Reconnects(random.Random(1)).due_s == 0.0


def test_delays_double_up_to_the_cap_and_are_jittered_by_half() -> None:
    reconnects = Reconnects(random.Random(1))
    for attempt in range(40):
        ceiling_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2**attempt)
        assert ceiling_s / 2 <= delay_s(reconnects, 100.0) <= ceiling_s


def test_a_fleet_does_not_come_back_as_one() -> None:
    delays = {delay_s(Reconnects(random.Random(seed)), 0.0) for seed in range(50)}
    assert len(delays) == 50


@pytest.mark.parametrize(
    ("lived_s", "resets"), [(STEADY_S - 0.1, False), (STEADY_S, True)], ids=["short", "long"]
)
def test_only_a_long_connection_ends_the_series(lived_s: float, resets: bool) -> None:
    reconnects = Reconnects(random.Random(1))
    for _ in range(6):
        reconnects.failed(0.0)
    reconnects.accepted(0.0)
    assert (delay_s(reconnects, lived_s) <= FIRST_DELAY_S) == resets


def test_what_only_a_person_can_mend_is_tried_slowly() -> None:
    delay = delay_s(Reconnects(random.Random(1)), 0.0, slow=True)
    assert SLOW_DELAY_S / 2 <= delay <= SLOW_DELAY_S


def test_a_contested_name_is_defended_slowly_until_a_connection_outlives_the_others_attempts() -> (
    None
):
    reconnects = Reconnects(random.Random(1))
    reconnects.contested()
    for now_s in (0.0, 100.0, 200.0):
        reconnects.accepted(now_s)
        assert delay_s(reconnects, now_s + SLOW_DELAY_S) >= SLOW_DELAY_S / 2
    reconnects.accepted(1000.0)
    assert delay_s(reconnects, 1000.0 + PEACEFUL_S) <= FIRST_DELAY_S


def test_a_connection_that_was_ended_on_purpose_is_followed_at_once() -> None:
    reconnects = Reconnects(random.Random(1))
    for _ in range(4):
        reconnects.failed(0.0)
    reconnects.accepted(50.0)
    reconnects.restarted(51.0)
    assert (reconnects.due_s, reconnects.failures) == (51.0, 4)
    reconnects.contested()
    reconnects.restarted(52.0)
    assert reconnects.due_s >= 52.0 + SLOW_DELAY_S / 2


def test_a_connection_is_young_until_it_has_lived() -> None:
    reconnects = Reconnects(random.Random(1))
    assert reconnects.is_young(1e9)
    reconnects.accepted(100.0)
    assert reconnects.is_young(100.0 + STEADY_S - 0.1)
    assert not reconnects.is_young(100.0 + STEADY_S)
    reconnects.failed(200.0)
    assert reconnects.is_young(300.0)
