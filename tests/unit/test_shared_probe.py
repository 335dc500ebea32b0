"""The probe tells brokers that deliver shared subscriptions from those that only grant them."""

from __future__ import annotations

import random

import pytest

from shared.mqtt.message import Message
from shared.mqtt.shared_subscriptions import AGAIN_S, PATIENCE_S, SharedProbe, Verdict
from tests.fakes import FakeBroker, FakeLink

TOPIC = "escalon/plant/nodes/press-3/probe"


class Rig:
    """A probe on a fake broker."""

    def __init__(self, *, delivers: bool) -> None:
        self.hub = FakeBroker(delivers_shared=delivers)
        self.link = FakeLink(self.hub)
        self.probe = SharedProbe(self.link, TOPIC, random.Random(1))
        self.now_s = 1000.0

    def turn(self, passes_s: float = 0.0) -> Verdict:
        self.now_s += passes_s
        self.probe.poll(self.now_s)
        for message in self.link.receive():
            assert self.probe.take(message)
        return self.probe.verdict


def test_a_broker_that_delivers_is_known_at_once() -> None:
    rig = Rig(delivers=True)
    assert rig.probe.verdict is Verdict.UNKNOWN
    assert rig.turn() is Verdict.DELIVERED
    assert rig.link.subscriptions == {}
    assert rig.probe.due_s() is None


def test_a_broker_that_only_grants_is_known_when_patience_ends() -> None:
    rig = Rig(delivers=False)
    assert rig.turn() is Verdict.UNKNOWN
    assert rig.turn(PATIENCE_S - 0.1) is Verdict.UNKNOWN
    assert rig.turn(0.1) is Verdict.NOT_DELIVERED
    assert rig.link.subscriptions == {}


def test_it_is_sent_again_while_nothing_comes() -> None:
    rig = Rig(delivers=False)
    for _ in range(4):
        rig.turn()
        due_s = rig.probe.due_s()
        assert due_s is not None
        rig.now_s = due_s
    assert len(rig.hub.payloads(TOPIC)) == 4
    assert rig.now_s == pytest.approx(1000.0 + 4 * AGAIN_S)


def test_each_connection_is_probed_anew_and_the_old_verdict_stands_meanwhile() -> None:
    rig = Rig(delivers=True)
    rig.turn()
    rig.hub.delivers_shared = False
    rig.link.disconnect()
    assert rig.turn() is Verdict.DELIVERED
    rig.link.connect()
    assert rig.turn() is Verdict.DELIVERED
    assert rig.turn(PATIENCE_S) is Verdict.NOT_DELIVERED


def test_a_connection_that_is_lost_meanwhile_proves_nothing() -> None:
    rig = Rig(delivers=False)
    rig.turn()
    rig.link.disconnect()
    assert rig.turn(10 * PATIENCE_S) is Verdict.UNKNOWN


def test_what_another_probe_sent_is_taken_and_proves_nothing() -> None:
    rig = Rig(delivers=False)
    rig.turn()
    assert rig.probe.take(Message(TOPIC, b"0123456789abcdef", 0, 0, 1))
    assert rig.probe.verdict is Verdict.UNKNOWN
    assert not rig.probe.take(Message(f"{TOPIC}/other", b"", 0, 0, 1))


def test_an_answer_that_comes_after_the_verdict_changes_nothing() -> None:
    rig = Rig(delivers=False)
    rig.turn()
    nonce = rig.hub.payloads(TOPIC)[0]
    rig.turn(PATIENCE_S)
    assert rig.probe.take(Message(TOPIC, nonce, 0, 0, 1))
    assert rig.probe.verdict is Verdict.NOT_DELIVERED


def test_a_broker_that_says_it_has_none_is_not_asked() -> None:
    rig = Rig(delivers=True)
    rig.link.refuses_shared = True
    assert rig.turn() is Verdict.NOT_DELIVERED
    assert rig.link.subscribed == []
    assert rig.hub.published == []


def test_two_probes_of_one_broker_are_in_groups_of_their_own() -> None:
    hub = FakeBroker(delivers_shared=True)
    links = [FakeLink(hub), FakeLink(hub)]
    for seed, link in enumerate(links):
        SharedProbe(link, TOPIC, random.Random(seed)).poll(0.0)
    assert links[0].subscribed != links[1].subscribed
