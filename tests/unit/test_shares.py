"""Each sample is some worker's, whatever the broker can do and whatever was before."""

from __future__ import annotations

import random

import pytest

from shared.metrics import NodeMetrics
from shared.mqtt.message import Message
from shared.mqtt.shared_subscriptions import PATIENCE_S, SharedProbe
from shared.workers.worker import ALONE, Worker
from tests.fakes import FakeBroker, FakeLink
from tier1.shares import MAX_WAITING, SampleShares

WHOLE = "escalon/site-a/meter/samples/+"
DEALT = f"$share/press-3/{WHOLE}"
PROBE = "escalon/site-a/nodes/press-3/probe"


class Place:
    """A worker's shares at a fake broker, which delivers shared subscriptions only on demand."""

    def __init__(self, worker: Worker, metrics: NodeMetrics) -> None:
        self.hub = FakeBroker()
        self.link = FakeLink(self.hub, connected=False)
        self.metrics = metrics
        self.now_s = 1000.0
        self.probe = SharedProbe(self.link, PROBE, random.Random(1))
        self.shares = SampleShares(
            worker=worker,
            group="press-3",
            filters={WHOLE: 1},
            link=self.link,
            probe=self.probe,
            metrics=metrics,
        )
        self.shares.start()

    def connect(self) -> None:
        self.link.connect()
        self.shares.on_connected()

    def find_out(self, *, delivered: bool) -> list[Message]:
        """Lets the probe end; returns what waited for it."""
        self.shares.poll(self.now_s)
        if delivered:
            nonce = self.hub.payloads(PROBE)[-1]
            assert self.shares.take_probe(Message(PROBE, nonce, 0, 0, self.link.session))
        else:
            self.now_s += PATIENCE_S
        return self.shares.poll(self.now_s)

    @property
    def subscriptions(self) -> set[str]:
        """What stands, but for the probe's."""
        return {each for each in self.link.subscriptions if "/probe" not in each}


def sample(mid: int = 1, sensor: str = "cam-1") -> Message:
    return Message(WHOLE.replace("+", sensor), b"{}", 1, mid, 1)


def test_a_node_without_workers_takes_everything_from_the_first_connection(
    metrics: NodeMetrics,
) -> None:
    place = Place(ALONE, metrics)
    assert place.shares.takes_all
    assert place.subscriptions == {WHOLE}
    assert place.link.forgotten == [DEALT]
    place.connect()
    assert place.shares.poll(place.now_s) == []
    assert place.shares.due_s() is None
    assert place.hub.published == []


def test_before_the_verdict_a_worker_subscribes_to_nothing_and_ends_nothing(
    metrics: NodeMetrics,
) -> None:
    place = Place(Worker(0, 2), metrics)
    place.connect()
    place.shares.poll(place.now_s)
    assert (place.subscriptions, place.link.forgotten) == (set(), [])
    assert not place.shares.takes_all
    assert place.shares.due_s() is not None


def test_where_the_broker_deals_out_a_worker_takes_whatever_comes(metrics: NodeMetrics) -> None:
    place = Place(Worker(1, 2), metrics)
    place.connect()
    place.find_out(delivered=True)
    assert place.subscriptions == {DEALT}
    assert place.link.forgotten == [WHOLE]
    assert place.shares.takes_all


def test_where_it_does_not_a_worker_takes_its_own_sensors(metrics: NodeMetrics) -> None:
    place = Place(Worker(1, 2), metrics)
    place.connect()
    place.find_out(delivered=False)
    assert place.subscriptions == {WHOLE}
    assert place.link.forgotten == [DEALT]
    assert not place.shares.takes_all
    taken = [sensor for sensor in (f"cam-{n}" for n in range(100)) if place.shares.takes(sensor)]
    assert taken == [s for s in (f"cam-{n}" for n in range(100)) if Worker(1, 2).takes(s)]


@pytest.mark.parametrize("delivered", [True, False], ids=["dealt", "split"])
def test_what_comes_before_the_verdict_waits_for_it_in_its_order(
    metrics: NodeMetrics, *, delivered: bool
) -> None:
    place = Place(Worker(0, 2), metrics)
    place.connect()
    messages = [sample(mid) for mid in (1, 2, 3)]
    assert all(place.shares.holds(message) for message in messages)
    assert place.find_out(delivered=delivered) == messages
    assert not place.shares.holds(sample(4))
    assert place.shares.poll(place.now_s) == []


def test_what_waited_for_the_verdict_of_a_lost_connection_is_left_to_the_broker(
    metrics: NodeMetrics,
) -> None:
    place = Place(Worker(0, 2), metrics)
    place.connect()
    place.shares.holds(sample(1))
    place.link.disconnect()
    place.connect()
    place.shares.holds(sample(1))
    assert len(place.find_out(delivered=True)) == 1


def test_what_waits_is_bounded_and_counted(metrics: NodeMetrics) -> None:
    place = Place(Worker(0, 2), metrics)
    place.connect()
    for _ in range(MAX_WAITING + 1):
        assert place.shares.holds(sample())
    assert metrics.drops.labels(reason="sharing_unknown")._value.get() == 1
    assert len(place.link.acknowledged) == 1
    assert len(place.find_out(delivered=True)) == MAX_WAITING


def test_another_broker_with_another_verdict_changes_what_is_subscribed(
    metrics: NodeMetrics,
) -> None:
    place = Place(Worker(0, 2), metrics)
    place.connect()
    place.find_out(delivered=True)
    place.link.disconnect()
    place.connect()
    assert not place.shares.holds(sample())
    place.find_out(delivered=False)
    assert place.subscriptions == {WHOLE}
    assert not place.shares.takes_all
    place.link.disconnect()
    place.connect()
    place.find_out(delivered=True)
    assert place.subscriptions == {DEALT}
    assert place.shares.takes_all


def test_the_new_subscription_stands_before_the_old_one_ends(
    metrics: NodeMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(Worker(0, 2), metrics)
    place.connect()
    place.find_out(delivered=False)
    place.link.disconnect()
    place.connect()
    order: list[str] = []
    monkeypatch.setattr(place.link, "subscribe", lambda each, qos=1: order.append(f"+{each}"))
    monkeypatch.setattr(place.link, "forget", lambda each: order.append(f"-{each}"))
    place.shares.poll(place.now_s)
    nonce = place.hub.payloads(PROBE)[-1]
    place.shares.take_probe(Message(PROBE, nonce, 0, 0, place.link.session))
    place.shares.poll(place.now_s)
    assert [each for each in order if "/probe" not in each] == [f"+{DEALT}", f"-{WHOLE}"]


@pytest.mark.parametrize(("delivered", "takes"), [(True, True), (False, False)])
def test_a_worker_that_leaves_ends_every_subscription_and_takes_what_was_dealt_to_it(
    metrics: NodeMetrics, *, delivered: bool, takes: bool
) -> None:
    place = Place(Worker(3, 2), metrics)
    assert place.link.forgotten == [WHOLE, DEALT]
    place.connect()
    place.find_out(delivered=delivered)
    assert place.subscriptions == set()
    assert place.shares.takes_all == takes
    assert not any(place.shares.takes(f"cam-{n}") for n in range(50))
