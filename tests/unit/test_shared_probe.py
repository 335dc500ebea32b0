"""The probe tells brokers that deliver shared subscriptions from those that only grant them."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from shared.mqtt.message import Message
from shared.mqtt.shared_subscriptions import MAX_WAIT_S, TRIES, SharedProbe, Verdict
from tests.fakes import FakeBroker, FakeLink

SHARED = "escalon/plant/nodes/press-3/probe/shared"
PLAIN = "escalon/plant/nodes/press-3/probe/plain"


class Rig:
    """A probe on a fake broker, some of whose messages get lost."""

    def __init__(self, *, delivers: bool, loses: frozenset[str] = frozenset()) -> None:
        self.hub = FakeBroker(delivers_shared=delivers)
        self.link = FakeLink(self.hub)
        self.probe = SharedProbe(self.link, SHARED, PLAIN, random.Random(1))
        self.loses = loses
        self.now_s = 1000.0

    def turn(self) -> Verdict:
        """Lets a turn pass as soon as one is due."""
        self.now_s = self.probe.due_s() or self.now_s
        self.probe.poll(self.now_s)
        for message in self.link.receive():
            if message.topic not in self.loses:
                assert self.probe.take(message)
        return self.probe.verdict

    def read(self) -> Verdict:
        """Takes what has come, without a turn."""
        for message in self.link.receive():
            assert self.probe.take(message)
        return self.probe.verdict

    def turns(self, number: int) -> Verdict:
        for _ in range(number):
            self.turn()
        return self.probe.verdict


def test_a_broker_that_delivers_is_known_at_once() -> None:
    rig = Rig(delivers=True)
    assert rig.probe.verdict is Verdict.UNKNOWN
    assert rig.turn() is Verdict.DELIVERED
    assert rig.link.subscriptions == {}
    assert rig.probe.due_s() is None


def test_a_broker_that_only_grants_is_known_after_several_tries() -> None:
    rig = Rig(delivers=False)
    assert rig.turns(TRIES) is Verdict.UNKNOWN
    assert rig.turn() is Verdict.NOT_DELIVERED
    assert len(rig.hub.payloads(SHARED)) == TRIES
    assert rig.link.subscriptions == {}
    assert rig.probe.due_s() is None


def test_it_waits_longer_from_try_to_try() -> None:
    rig = Rig(delivers=False, loses=frozenset({PLAIN}))
    moments = []
    for _ in range(9):
        rig.turn()
        moments.append(rig.now_s)
    waits = [after - before for before, after in pairwise(moments)]
    assert waits == sorted(waits)
    assert waits[-1] == MAX_WAIT_S
    assert waits[0] < MAX_WAIT_S / 8


def test_where_nothing_at_all_comes_back_nothing_is_proved_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(delivers=False, loses=frozenset({PLAIN}))
    assert rig.turns(50) is Verdict.UNKNOWN
    assert [record.message for record in caplog.records] == [
        f"nothing comes back that is sent to {PLAIN}: may this node publish and subscribe there?"
    ]


def test_a_shared_message_that_gets_lost_now_and_then_proves_nothing() -> None:
    rig = Rig(delivers=True, loses=frozenset({SHARED}))
    assert rig.turns(TRIES) is Verdict.UNKNOWN
    rig.loses = frozenset()
    rig.link.disconnect()
    rig.link.connect()
    assert rig.turn() is Verdict.DELIVERED


def test_a_slow_link_proves_nothing() -> None:
    rig = Rig(delivers=True)
    for _ in range(20):
        rig.now_s = rig.probe.due_s() or rig.now_s
        rig.probe.poll(rig.now_s)
    assert rig.probe.verdict is Verdict.UNKNOWN
    assert rig.read() is Verdict.DELIVERED


def test_it_is_published_so_that_the_broker_must_take_it() -> None:
    rig = Rig(delivers=False)
    rig.turn()
    assert {(each.topic, each.qos) for each in rig.hub.published} == {(SHARED, 1), (PLAIN, 1)}


def test_a_link_that_takes_nothing_proves_nothing() -> None:
    rig = Rig(delivers=False)
    rig.link.full = True
    assert rig.turns(20) is Verdict.UNKNOWN


def test_each_connection_is_probed_anew_and_the_old_verdict_stands_meanwhile() -> None:
    rig = Rig(delivers=True)
    rig.turn()
    rig.hub.delivers_shared = False
    rig.link.disconnect()
    assert rig.turn() is Verdict.DELIVERED
    rig.link.connect()
    assert rig.turns(TRIES) is Verdict.DELIVERED
    assert rig.turn() is Verdict.NOT_DELIVERED


def test_a_connection_that_is_lost_meanwhile_proves_nothing() -> None:
    rig = Rig(delivers=False)
    for _ in range(TRIES):
        rig.turns(TRIES)
        rig.link.disconnect()
        rig.turn()
        rig.link.connect()
    assert rig.probe.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("topic", [SHARED, PLAIN])
def test_what_another_life_or_connection_sent_is_taken_and_proves_nothing(topic: str) -> None:
    rig = Rig(delivers=False, loses=frozenset({SHARED, PLAIN}))
    rig.turn()
    sent = rig.hub.payloads(topic)[0]
    rig.link.disconnect()
    rig.link.connect()
    for _ in range(2 * TRIES):
        rig.turn()
        assert rig.probe.take(Message(topic, b"0123456789abcdef", 0, 0, 1))
        assert rig.probe.take(Message(topic, sent, 0, 0, 1))
    assert rig.probe.verdict is Verdict.UNKNOWN
    assert not rig.probe.take(Message(f"{topic}/other", b"", 0, 0, 1))


def test_an_answer_that_comes_after_the_verdict_changes_nothing() -> None:
    rig = Rig(delivers=False)
    rig.turns(TRIES + 1)
    assert rig.probe.take(Message(SHARED, rig.hub.payloads(SHARED)[0], 0, 0, 1))
    assert rig.probe.verdict is Verdict.NOT_DELIVERED


def test_a_broker_that_says_it_has_none_is_not_asked() -> None:
    rig = Rig(delivers=True)
    rig.link.refuses_shared = True
    assert rig.turn() is Verdict.NOT_DELIVERED
    assert rig.link.subscribed == []
    assert rig.hub.published == []


def test_each_life_subscribes_to_the_same_so_that_none_leaves_anything_in_the_session() -> None:
    hub = FakeBroker()
    links = [FakeLink(hub), FakeLink(hub)]
    for seed, link in enumerate(links):
        SharedProbe(link, SHARED, PLAIN, random.Random(seed)).poll(0.0)
    assert links[0].subscribed == links[1].subscribed
