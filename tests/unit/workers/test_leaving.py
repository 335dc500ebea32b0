"""A worker that leaves goes when its session has nothing more for it, and not before."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import pytest

from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.workers.leaving import MAX_STILL_S, QUIET_S, Leaving
from tests.fakes import FakeBroker, FakeLink

MESSAGE = Message("p/s/m/samples/cam", b"{}", 1, 1, 1)


class Part:
    """A node that notes what it is asked."""

    def __init__(self) -> None:
        self.link = FakeLink(FakeBroker(), connected=False)
        self.calls: list[str] = []
        self.is_idle = True

    @property
    def links(self) -> Sequence[Link]:
        return (self.link,)

    def on_connected(self, link: Link) -> None:
        self.calls.append("on_connected")

    def on_message(self, link: Link, message: Message, now_s: float) -> None:
        self.calls.append("on_message")

    def turn(self, now_s: float) -> None:
        self.calls.append("turn")

    def next_wake_s(self, now_s: float) -> float:
        return 1000.0

    def farewell(self) -> None:
        self.calls.append("farewell")

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def node() -> Part:
    return Part()


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the process sends to itself."""
    sent: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", sent.append)
    return sent


@pytest.fixture
def leaving(node: Part, signals: list[int]) -> Leaving:
    return Leaving(node, lambda: node.is_idle)


def test_it_goes_once_nothing_has_come_for_a_while(
    node: Part, leaving: Leaving, signals: list[int]
) -> None:
    node.link.connect()
    leaving.turn(100.0)
    leaving.on_message(node.link, MESSAGE, 101.0)
    leaving.turn(100.9 + QUIET_S)
    assert not leaving.is_done
    leaving.turn(101.0 + QUIET_S)
    assert leaving.is_done
    leaving.turn(102.0 + QUIET_S)
    assert signals == [signal.SIGTERM]


def test_it_stays_while_something_is_unanswered(node: Part, leaving: Leaving) -> None:
    node.link.connect()
    leaving.turn(100.0)
    node.is_idle = False
    leaving.turn(100.0 + 2 * QUIET_S)
    assert not leaving.is_done
    node.is_idle = True
    leaving.turn(100.0 + 2 * QUIET_S)
    assert leaving.is_done


def test_it_waits_for_the_broker_however_long_that_takes(node: Part, leaving: Leaving) -> None:
    leaving.turn(100.0)
    leaving.turn(100.0 + 2 * MAX_STILL_S)
    assert not leaving.is_done
    node.link.connect()
    leaving.turn(101.0 + 2 * MAX_STILL_S)
    assert not leaving.is_done


def test_a_connection_that_is_lost_begins_the_wait_anew(node: Part, leaving: Leaving) -> None:
    node.link.connect()
    leaving.turn(100.0)
    node.link.disconnect()
    leaving.turn(101.0)
    node.link.connect()
    leaving.turn(102.0)
    leaving.turn(100.0 + QUIET_S)
    assert not leaving.is_done
    leaving.turn(102.0 + QUIET_S)
    assert leaving.is_done


def test_it_stays_while_the_broker_waits_for_an_acknowledgement(
    node: Part, leaving: Leaving
) -> None:
    node.link.connect()
    node.link.deliver(MESSAGE.topic, MESSAGE.payload, 1, dup=False, retain=False)
    leaving.turn(100.0)
    leaving.turn(101.0 + QUIET_S)
    assert not leaving.is_done
    node.link.done(MESSAGE)
    leaving.turn(102.0 + QUIET_S)
    leaving.turn(102.0 + 2 * QUIET_S)
    assert leaving.is_done


def test_it_stays_however_long_that_takes_while_something_moves(
    node: Part, leaving: Leaving, signals: list[int]
) -> None:
    node.link.connect()
    node.is_idle = False
    for number in range(20):
        now_s = 100.0 + number * 0.9 * MAX_STILL_S
        if number % 2:
            leaving.on_message(node.link, MESSAGE, now_s)
        else:
            node.link.deliver(MESSAGE.topic, b"", number + 1, dup=False, retain=False)
        leaving.turn(now_s)
    assert not signals


@pytest.mark.parametrize("unacknowledged", [0, 3])
def test_where_nothing_moves_any_more_it_stops_and_is_not_done(
    node: Part,
    leaving: Leaving,
    signals: list[int],
    caplog: pytest.LogCaptureFixture,
    unacknowledged: int,
) -> None:
    node.link.connect()
    node.is_idle = unacknowledged > 0
    for mid in range(1, unacknowledged + 1):
        node.link.deliver(MESSAGE.topic, MESSAGE.payload, mid, dup=False, retain=False)
    leaving.turn(100.0)
    leaving.turn(99.0 + MAX_STILL_S)
    assert not signals
    leaving.turn(100.0 + MAX_STILL_S)
    leaving.turn(101.0 + MAX_STILL_S)
    assert signals == [signal.SIGTERM]
    assert not leaving.is_done
    assert f"{unacknowledged} messages are unanswered" in caplog.text


def test_the_node_works_on_meanwhile_and_says_no_farewell(node: Part, leaving: Leaving) -> None:
    node.link.connect()
    leaving.on_connected(node.link)
    leaving.on_message(node.link, MESSAGE, 100.0)
    leaving.turn(100.0)
    assert leaving.next_wake_s(100.0) <= QUIET_S
    assert leaving.links == (node.link,)
    leaving.farewell()
    leaving.close()
    assert node.calls == ["on_connected", "on_message", "turn", "close"]
