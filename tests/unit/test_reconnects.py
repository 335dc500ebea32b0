"""When a link tries again."""

from __future__ import annotations

import random

from shared.mqtt.reconnects import FIRST_DELAY_S, SLOW_DELAY_S, STEADY_S, Reconnects


def test_first_attempt_is_due_at_once_and_delays_grow_with_each_failure() -> None:
    reconnects = Reconnects(random.Random(1))
    assert reconnects.due_s <= 0
    for doublings in range(4):
        reconnects.failed(100.0)
        ceiling_s = FIRST_DELAY_S * 2**doublings
        assert ceiling_s / 2 <= reconnects.due_s - 100.0 <= ceiling_s


def test_only_a_connection_that_lived_for_a_while_ends_a_series_of_failures() -> None:
    reconnects = Reconnects(random.Random(1))
    for lived_s, failures in ((0.1, 1), (STEADY_S - 0.1, 2), (STEADY_S, 1)):
        reconnects.accepted(100.0)
        reconnects.failed(100.0 + lived_s)
        assert reconnects.failures == failures


def test_restart_on_purpose_is_no_failure_and_needs_no_delay() -> None:
    reconnects = Reconnects(random.Random(1))
    for _ in range(100):
        reconnects.accepted(100.0)
        reconnects.restarted(100.1)
        assert reconnects.due_s == 100.1
    assert reconnects.failures == 0


def test_restart_on_purpose_is_slow_while_another_client_fights_for_the_name() -> None:
    reconnects = Reconnects(random.Random(1))
    reconnects.contested()
    reconnects.accepted(100.0)
    reconnects.restarted(100.1)
    assert reconnects.due_s >= 100.1 + SLOW_DELAY_S / 2
