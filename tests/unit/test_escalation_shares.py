"""Tier-2 nodes share the escalations where the broker can do that, and say so where it cannot."""

from __future__ import annotations

import random

import pytest

from shared.mqtt.shared_subscriptions import TRIES, SharedProbe, Verdict
from shared.workers.worker import ALONE, Worker
from tests.fakes import FakeBroker, FakeLink
from tier2.shares import EscalationShares

PLAIN = "escalon/plant/meter/escalations/+"
SHARED = f"$share/escalon-tier2/{PLAIN}"
PROBE = "escalon/plant/nodes/tier2-a/probe"
NODES = [f"tier1-{number}" for number in range(20)]


class Rig:
    """Shares on a fake link whose broker delivers shared subscriptions or does not."""

    def __init__(self, *, delivers: bool = True, worker: Worker = ALONE) -> None:
        self.link = FakeLink(FakeBroker(delivers_shared=delivers))
        self.probe = SharedProbe(self.link, f"{PROBE}/shared", f"{PROBE}/plain", random.Random(1))
        self.shares = EscalationShares({PLAIN: "escalon-tier2"}, self.link, self.probe, worker)
        self.shares.start()

    def settle(self, now_s: float = 0.0) -> None:
        """Lets the probe come to its verdict."""
        for _ in range(TRIES + 2):
            self.shares.poll(now_s)
            for message in self.link.receive():
                assert self.shares.take_probe(message)
            now_s += 10.0

    @property
    def standing(self) -> set[str]:
        return {each for each in self.link.subscriptions if "probe" not in each}


def test_until_more_is_known_every_question_is_taken() -> None:
    rig = Rig()
    assert rig.standing == {PLAIN}
    assert all(map(rig.shares.takes, NODES))
    assert rig.shares.remark == ""


def test_where_the_broker_delivers_them_the_subscription_is_shared() -> None:
    rig = Rig()
    rig.settle()
    assert rig.standing == {SHARED}
    assert all(map(rig.shares.takes, NODES))
    assert rig.shares.remark == ""


def test_where_it_does_not_every_node_answers_everything_and_says_so() -> None:
    rig = Rig(delivers=False)
    rig.settle()
    assert rig.standing == {PLAIN}
    assert all(map(rig.shares.takes, NODES))
    assert "does not deliver shared subscriptions" in rig.shares.remark


@pytest.mark.parametrize("settled", [False, True], ids=["unknown", "not-delivered"])
def test_workers_of_one_node_divide_the_askers_there(settled: bool) -> None:
    takers = [Rig(delivers=False, worker=Worker(index, 3)) for index in range(3)]
    for rig in takers:
        if settled:
            rig.settle()
    for node in NODES:
        assert sum(rig.shares.takes(node) for rig in takers) == 1


def test_a_broker_that_stops_delivering_them_is_noticed() -> None:
    rig = Rig()
    rig.settle()
    rig.link.hub.delivers_shared = False
    rig.link.disconnect()
    rig.link.connect()
    rig.settle(1000.0)
    assert rig.probe.verdict is Verdict.NOT_DELIVERED
    assert rig.standing == {PLAIN}
    assert rig.shares.remark


def test_a_worker_that_leaves_subscribes_to_nothing() -> None:
    rig = Rig(worker=Worker(2, 2))
    rig.settle()
    assert rig.standing == set()
    assert rig.shares.due_s() is None
