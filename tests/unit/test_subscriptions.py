"""What is subscribed stands at every connection, and what has ended does not come back."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from shared.mqtt.subscriptions import Subscriptions


class Code(NamedTuple):
    """A reason code of a SUBACK."""

    is_failure: bool


class Wire:
    """Keeps what it is told to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def subscribe(self, topic_filter: str, qos: int) -> int:
        self.sent.append((f"+{qos}", topic_filter))
        return len(self.sent)

    def unsubscribe(self, topic_filter: str) -> int:
        self.sent.append(("-", topic_filter))
        return len(self.sent)

    def take(self) -> list[tuple[str, str]]:
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def subscriptions(wire: Wire) -> Subscriptions:
    standing: Any = wire
    return Subscriptions(standing, "mqtt://broker")


def test_what_was_subscribed_before_the_connection_is_sent_with_it(
    subscriptions: Subscriptions, wire: Wire
) -> None:
    subscriptions.add("a", 1)
    assert wire.take() == []
    subscriptions.connected(present=False)
    assert wire.take() == [("+1", "a")]
    subscriptions.add("b", 0)
    assert wire.take() == [("+0", "b")]
    subscriptions.lost()
    subscriptions.connected(present=True)
    assert wire.take() == [("+1", "a"), ("+0", "b")]


def test_what_ended_while_away_is_ended_in_a_session_that_was_kept(
    subscriptions: Subscriptions, wire: Wire
) -> None:
    subscriptions.add("a", 1)
    subscriptions.connected(present=False)
    subscriptions.lost()
    subscriptions.end("a")
    wire.take()
    subscriptions.connected(present=True)
    assert wire.take() == [("-", "a")]


def test_a_session_that_is_new_has_nothing_to_end(subscriptions: Subscriptions, wire: Wire) -> None:
    subscriptions.add("a", 1)
    subscriptions.end("a")
    subscriptions.forget("b")
    subscriptions.connected(present=False)
    subscriptions.lost()
    subscriptions.connected(present=True)
    assert wire.take() == []


def test_an_end_is_asked_for_again_until_the_broker_has_said_so(
    subscriptions: Subscriptions, wire: Wire
) -> None:
    subscriptions.connected(present=True)
    subscriptions.forget("a")
    subscriptions.lost()
    subscriptions.connected(present=True)
    assert wire.take() == [("-", "a"), ("-", "a")]
    subscriptions.ended(2)
    subscriptions.lost()
    subscriptions.connected(present=True)
    assert wire.take() == []


def test_what_is_subscribed_anew_is_not_ended(subscriptions: Subscriptions, wire: Wire) -> None:
    subscriptions.add("a", 1)
    subscriptions.end("a")
    subscriptions.add("a", 0)
    subscriptions.connected(present=True)
    assert wire.take() == [("+0", "a")]


def test_to_end_what_never_stood_is_nothing(subscriptions: Subscriptions, wire: Wire) -> None:
    subscriptions.connected(present=True)
    subscriptions.end("a")
    assert wire.take() == []


def test_a_refusal_is_said_with_its_filter(
    subscriptions: Subscriptions, caplog: pytest.LogCaptureFixture
) -> None:
    subscriptions.connected(present=False)
    subscriptions.add("secret/#", 1)
    subscriptions.answered(1, [Code(is_failure=True)])
    assert "mqtt://broker refuses the subscription to secret/#" in caplog.text
