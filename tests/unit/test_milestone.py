"""The milestone is passed when all that came before it is acknowledged, and not before."""

from __future__ import annotations

import random

from shared.mqtt.message import Message
from shared.mqtt.milestone import Milestone
from tests.fakes import FakeBroker, FakeLink

TOPIC = "escalon/plant/nodes/press-3/probe/session"
SAMPLES = "escalon/plant/meter/samples/cam-1"


class Rig:
    """A persistent session with a milestone; its client answers when it is told to."""

    def __init__(self, *, receive_maximum: int = 65_535) -> None:
        self.hub = FakeBroker()
        self.link = FakeLink(self.hub, persistent=True, receive_maximum=receive_maximum)
        self.link.subscribe(SAMPLES, 1)
        self.milestone = Milestone(self.link, TOPIC, random.Random(1))
        self.unanswered: list[Message] = []

    def turn(self) -> bool:
        for message in self.link.receive():
            if self.milestone.take(message):
                self.link.done(message)
            else:
                self.unanswered.append(message)
        self.milestone.poll()
        return self.milestone.passed

    def turns(self) -> bool:
        return [self.turn() for _ in range(5)][-1]

    def answer(self) -> None:
        self.link.done(self.unanswered.pop(0))


def test_with_nothing_before_it_it_is_passed_once_it_has_come() -> None:
    rig = Rig()
    assert not rig.turns()
    assert not rig.milestone.begun
    rig.milestone.begin()
    assert rig.milestone.begun
    assert rig.turns()
    assert TOPIC not in rig.link.subscriptions
    assert rig.hub.payloads(TOPIC) == rig.hub.payloads(TOPIC)[:1]


def test_it_waits_for_the_answers_to_all_before_it() -> None:
    rig = Rig()
    for _ in range(3):
        rig.hub.publish(SAMPLES, b"{}")
    rig.milestone.begin()
    assert not rig.turns()
    for _ in range(3):
        assert not rig.turns()
        rig.answer()
    assert rig.turns()


def test_it_comes_behind_what_the_broker_still_holds() -> None:
    rig = Rig(receive_maximum=1)
    for _ in range(3):
        rig.hub.publish(SAMPLES, b"{}")
    rig.milestone.begin()
    for _ in range(3):
        assert not rig.turns()
        rig.answer()
    assert rig.turns()


def test_it_does_not_wait_for_what_comes_behind_it() -> None:
    rig = Rig()
    rig.milestone.begin()
    rig.milestone.poll()
    rig.hub.publish(SAMPLES, b"{}")
    assert rig.turns()
    assert len(rig.unanswered) == 1


def test_a_lost_connection_proves_nothing() -> None:
    rig = Rig()
    rig.hub.publish(SAMPLES, b"{}")
    rig.milestone.begin()
    assert not rig.turns()
    rig.link.disconnect()
    assert not rig.turns()
    rig.link.connect()
    rig.unanswered.clear()
    assert not rig.turns()
    rig.answer()
    assert rig.turns()


def test_one_of_an_earlier_life_is_taken_and_proves_nothing() -> None:
    rig = Rig()
    rig.milestone.begin()
    assert rig.milestone.take(Message(TOPIC, b"0123456789abcdef-1-1", 1, 7, 1))
    rig.milestone.poll()
    assert not rig.milestone.passed
    assert not rig.milestone.take(Message(SAMPLES, b"", 1, 8, 1))


def test_begun_again_it_is_another_one() -> None:
    rig = Rig()
    rig.milestone.begin()
    assert rig.turns()
    rig.hub.publish(SAMPLES, b"{}")
    rig.milestone.begin()
    assert not rig.turns()
    rig.answer()
    assert rig.turns()
    assert len(set(rig.hub.payloads(TOPIC))) == 2


def test_a_link_that_takes_nothing_is_asked_again() -> None:
    rig = Rig()
    rig.link.full = True
    rig.milestone.begin()
    assert not rig.turns()
    rig.link.full = False
    assert rig.turns()
