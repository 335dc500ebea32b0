"""A trouble is said once, and while it stays, once a minute."""

from __future__ import annotations

import logging

import pytest

from shared.mqtt.trouble_log import MAX_KNOWN, REPEAT_S, TroubleLog


@pytest.fixture
def troubles() -> TroubleLog:
    return TroubleLog(logging.getLogger("troubles"))


def test_a_trouble_that_recurs_is_said_again_after_a_minute_with_its_number(
    troubles: TroubleLog, caplog: pytest.LogCaptureFixture
) -> None:
    for now_s in (0.0, 1.0, 2.0, REPEAT_S - 0.1, REPEAT_S, REPEAT_S + 1):
        troubles.say(logging.WARNING, "no broker", now_s)
    assert caplog.messages == ["no broker", "no broker (3 times more)"]


def test_another_trouble_is_said_at_once(
    troubles: TroubleLog, caplog: pytest.LogCaptureFixture
) -> None:
    troubles.say(logging.WARNING, "no broker", 0.0)
    troubles.say(logging.ERROR, "refused", 0.1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]


def test_troubles_of_one_key_are_one_trouble(
    troubles: TroubleLog, caplog: pytest.LogCaptureFixture
) -> None:
    troubles.say(logging.WARNING, "dropped 17 bytes", 0.0, key="dropped")
    troubles.say(logging.WARNING, "dropped 18 bytes", 0.1, key="dropped")
    troubles.say(logging.WARNING, "dropped 19 bytes", REPEAT_S, key="dropped")
    assert caplog.messages == ["dropped 17 bytes", "dropped 19 bytes (1 times more)"]


def test_after_all_was_well_the_same_trouble_is_new(
    troubles: TroubleLog, caplog: pytest.LogCaptureFixture
) -> None:
    troubles.say(logging.WARNING, "no broker", 0.0)
    troubles.clear()
    troubles.say(logging.WARNING, "no broker", 0.1)
    assert caplog.messages == ["no broker", "no broker"]


def test_what_is_known_is_bounded(troubles: TroubleLog) -> None:
    for index in range(10 * MAX_KNOWN):
        troubles.say(logging.DEBUG, f"{index}", 0.0)
    assert len(troubles._said_s) <= MAX_KNOWN
