"""Each sample is some worker's, whatever the broker can do and whatever was before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from shared.metrics import NodeMetrics
from shared.mqtt.message import Message
from shared.mqtt.shared_subscriptions import TRIES, Verdict
from shared.workers.session_record import SessionRecord
from shared.workers.verdicts import VerdictRecord
from shared.workers.worker import ALONE, Worker
from tests.fakes import FakeBroker, FakeLink
from tier1 import shares as shares_module
from tier1.config import Tier1Config
from tier1.shares import MAX_WAITING, make_shares

WHOLE = "escalon/site-a/meter/samples/+"
DEALT = f"$share/press-3/{WHOLE}"
OLD = "escalon/site-a/meter/samples/cam-0"
URL = "mqtt://127.0.0.1"


class Place:
    """A worker's shares at a fake broker, in one of its lives."""

    def __init__(
        self,
        folder: Path,
        worker: Worker,
        metrics: NodeMetrics,
        *,
        delivers: bool = True,
        filters: Mapping[str, int] | None = None,
        hub: FakeBroker | None = None,
    ) -> None:
        (folder / "small.onnx").touch()
        model = {"path": folder / "small.onnx", "labels": ["good", "bent"]}
        node = {
            "role": "tier1",
            "node": "press-3",
            "site": "site-a",
            "state_dir": folder,
            "broker": {"url": URL},
            "pipelines": {"meter": {"input": {"shape": [3]}, "model": model}},
        }
        self.folder = folder
        self.hub = hub or FakeBroker(delivers_shared=delivers)
        name = f"press-3{worker.client_suffix}"
        self.link = FakeLink(self.hub, connected=False, client_id=name, persistent=True)
        self.now_s = 1000.0
        self.shares = make_shares(
            worker, Tier1Config.model_validate(node, strict=False),
            filters={WHOLE: 1} if filters is None else filters,
            link=self.link, metrics=metrics, seed=1,
        )  # fmt: skip
        self.shares.start()

    def connect(self) -> None:
        self.link.connect()
        self.shares.on_connected()

    def turn(self) -> list[Message]:
        """One turn of the node; returns what is to be taken now."""
        for message in self.link.receive():
            if self.shares.take_probe(message):
                self.link.done(message)
        return self.shares.poll(self.now_s)

    def find_out(self) -> list[Message]:
        """Lets the probe end; returns what waited for it."""
        released = []
        for _ in range(TRIES + 3):
            released += self.turn()
            self.now_s += 10.0
        return released

    @property
    def subscriptions(self) -> set[str]:
        """What stands, but for what it sends to itself."""
        return {each for each in self.link.subscriptions if "/probe/" not in each}

    @property
    def at_broker(self) -> set[str]:
        """What the broker has for the session."""
        session = self.hub.sessions[self.link.client_id]
        return {each for each in session.subscriptions if "/probe/" not in each}


@pytest.fixture
def known(tmp_path: Path) -> VerdictRecord:
    """What worker 0 has found out."""
    return VerdictRecord(tmp_path, URL)


def sample(mid: int = 1, sensor: str = "cam-1", size: int = 2) -> Message:
    return Message(WHOLE.replace("+", sensor), bytes(size), 1 if mid else 0, mid, 1)


def value(metrics: NodeMetrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def test_a_node_without_workers_takes_everything_from_the_first_connection(
    tmp_path: Path, metrics: NodeMetrics
) -> None:
    place = Place(tmp_path, ALONE, metrics)
    assert place.shares.takes_all
    assert place.subscriptions == {WHOLE}
    assert place.link.forgotten == [DEALT]
    place.connect()
    assert place.turn() == []
    assert place.shares.due_s() is None
    assert place.hub.published == []


@pytest.mark.parametrize("worker", [Worker(0, 2), Worker(1, 2)], ids=str)
def test_before_the_verdict_a_worker_subscribes_to_nothing_and_ends_nothing(
    tmp_path: Path, metrics: NodeMetrics, worker: Worker
) -> None:
    place = Place(tmp_path, worker, metrics, delivers=False)
    place.connect()
    place.turn()
    assert (place.subscriptions, place.link.forgotten) == (set(), [])
    assert not place.shares.takes_all
    assert not place.shares.is_known
    assert place.shares.due_s() is not None


def test_where_the_broker_deals_out_a_worker_takes_whatever_comes(
    tmp_path: Path, metrics: NodeMetrics, known: VerdictRecord
) -> None:
    known.write(Verdict.DELIVERED)
    place = Place(tmp_path, Worker(1, 2), metrics)
    place.connect()
    place.turn()
    assert place.subscriptions == {DEALT}
    assert place.link.forgotten == [WHOLE]
    assert place.shares.takes_all
    assert place.shares.is_known


def test_where_it_does_not_a_worker_takes_its_own_sensors(
    tmp_path: Path, metrics: NodeMetrics, known: VerdictRecord
) -> None:
    known.write(Verdict.NOT_DELIVERED)
    place = Place(tmp_path, Worker(1, 2), metrics)
    place.connect()
    place.turn()
    assert place.subscriptions == {WHOLE}
    assert place.link.forgotten == [DEALT]
    assert not place.shares.takes_all
    sensors = [f"cam-{number}" for number in range(100)]
    assert [each for each in sensors if place.shares.takes(each)] == [
        each for each in sensors if Worker(1, 2).takes(each)
    ]


@pytest.mark.parametrize(
    ("delivers", "wanted"), [(True, DEALT), (False, WHOLE)], ids=["dealt", "split"]
)
def test_worker_0_finds_out_and_the_others_follow(
    tmp_path: Path, metrics: NodeMetrics, delivers: bool, wanted: str
) -> None:
    first = Place(tmp_path, Worker(0, 2), metrics, delivers=delivers)
    second = Place(tmp_path, Worker(1, 2), metrics, hub=first.hub)
    for place in (first, second):
        place.connect()
        place.find_out()
        assert place.subscriptions == {wanted}
    assert len({each.topic for each in first.hub.published}) == 2, "only worker 0 probes"


# What comes before the verdict


@pytest.mark.parametrize("delivers", [True, False], ids=["dealt", "split"])
def test_what_the_broker_must_have_acknowledged_is_left_to_it_until_the_verdict(
    tmp_path: Path, metrics: NodeMetrics, delivers: bool
) -> None:
    place = Place(tmp_path, Worker(0, 2), metrics, delivers=delivers)
    place.connect()
    assert all(place.shares.holds(sample(mid)) for mid in range(1, 2 * MAX_WAITING))
    assert value(metrics, "edge_deferrals_total") == 2 * MAX_WAITING - 1
    assert value(metrics, "edge_drops_total", reason="sharing_unknown") == 0
    assert place.find_out() == []
    assert place.link.restarts == 1, "it brings them again at a new connection"
    assert not any(message.mid for message in place.link.acknowledged)
    assert not place.shares.holds(sample(4))
    place.find_out()
    assert place.link.restarts == 1


def test_what_it_does_not_keep_waits_for_the_verdict_in_its_order_also_through_an_outage(
    tmp_path: Path, metrics: NodeMetrics
) -> None:
    place = Place(tmp_path, Worker(0, 2), metrics)
    place.connect()
    messages = [sample(0, f"cam-{number}") for number in range(3)]
    assert all(place.shares.holds(message) for message in messages)
    place.link.disconnect()
    place.connect()
    assert place.find_out() == messages
    assert place.link.restarts == 0


def test_what_was_left_to_the_broker_before_an_outage_needs_no_other_new_connection(
    tmp_path: Path, metrics: NodeMetrics
) -> None:
    place = Place(tmp_path, Worker(0, 2), metrics)
    place.connect()
    place.shares.holds(sample(1))
    place.link.disconnect()
    place.connect()
    place.find_out()
    assert place.link.restarts == 0


def test_what_waits_is_bounded_in_number_and_counted(tmp_path: Path, metrics: NodeMetrics) -> None:
    place = Place(tmp_path, Worker(0, 2), metrics)
    place.connect()
    for _ in range(MAX_WAITING + 1):
        assert place.shares.holds(sample(0))
    assert value(metrics, "edge_drops_total", reason="sharing_unknown") == 1
    assert len(place.find_out()) == MAX_WAITING


def test_what_waits_is_bounded_in_bytes_and_counted(
    tmp_path: Path, metrics: NodeMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares_module, "MAX_WAITING_BYTES", 1000)
    place = Place(tmp_path, Worker(0, 2), metrics)
    place.connect()
    for _ in range(4):
        assert place.shares.holds(sample(0, size=300))
    assert value(metrics, "edge_drops_total", reason="sharing_unknown") == 1
    assert len(place.find_out()) == 3


# What was before


def test_another_broker_with_another_verdict_changes_what_is_subscribed(
    tmp_path: Path, metrics: NodeMetrics
) -> None:
    place = Place(tmp_path, Worker(0, 2), metrics)
    place.connect()
    place.find_out()
    for delivers, wanted in [(False, WHOLE), (True, DEALT)]:
        place.link.disconnect()
        place.hub.delivers_shared = delivers
        place.connect()
        assert not place.shares.holds(sample())
        place.find_out()
        assert place.subscriptions == place.at_broker == {wanted}
    assert place.shares.takes_all


def test_the_new_subscription_stands_before_the_old_one_ends(
    tmp_path: Path,
    metrics: NodeMetrics,
    known: VerdictRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known.write(Verdict.NOT_DELIVERED)
    place = Place(tmp_path, Worker(1, 2), metrics)
    place.connect()
    place.find_out()
    order: list[str] = []
    monkeypatch.setattr(place.link, "subscribe", lambda each, qos=1: order.append(f"+{each}"))
    monkeypatch.setattr(place.link, "forget", lambda each: order.append(f"-{each}"))
    known.write(Verdict.DELIVERED)
    place.now_s += 10.0
    place.turn()
    assert order == [f"+{DEALT}", f"-{WHOLE}"]


@pytest.mark.parametrize(
    ("worker", "delivers", "wanted"),
    [
        (ALONE, True, WHOLE),
        (Worker(0, 2), True, DEALT),
        (Worker(0, 2), False, WHOLE),
        (Worker(1, 1), True, None),
    ],
    ids=["alone", "dealt", "split", "leaves"],
)
def test_what_an_earlier_configuration_subscribed_to_is_ended(
    tmp_path: Path, metrics: NodeMetrics, worker: Worker, delivers: bool, wanted: str | None
) -> None:
    earlier = Worker(worker.index, 2) if worker.leaves else worker
    VerdictRecord(tmp_path, URL).write(Verdict.DELIVERED)
    place = Place(tmp_path, earlier, metrics, filters={OLD: 1, WHOLE: 1}, delivers=delivers)
    place.connect()
    place.find_out()
    assert len(place.at_broker) == 2
    place.link.disconnect()
    place = Place(tmp_path, worker, metrics, hub=place.hub)
    place.connect()
    place.find_out()
    assert place.at_broker == ({wanted} if wanted else set())
    if wanted:
        record = SessionRecord(tmp_path, worker, URL)
        assert record.read().filters == (wanted,), "what has ended is not ended again"
        assert record.read().confirmed


def test_what_is_subscribed_to_is_written_down_before_the_broker_knows_it(
    tmp_path: Path, metrics: NodeMetrics
) -> None:
    Place(tmp_path, ALONE, metrics, filters={OLD: 1})
    place = Place(tmp_path, ALONE, metrics)
    assert place.link.forgotten == sorted([DEALT, OLD])
    state = SessionRecord(tmp_path, ALONE, URL).read()
    assert state.filters == (WHOLE, OLD)
    assert not state.confirmed


def test_a_disk_that_fails_changes_nothing_else(tmp_path: Path, metrics: NodeMetrics) -> None:
    (tmp_path / "subscriptions.json").mkdir()
    place = Place(tmp_path, ALONE, metrics)
    place.connect()
    place.find_out()
    assert place.shares.takes_all
    assert place.at_broker == {WHOLE}


def test_a_worker_that_leaves_ends_every_subscription_and_takes_what_was_dealt_to_it(
    tmp_path: Path, metrics: NodeMetrics, known: VerdictRecord
) -> None:
    known.write(Verdict.DELIVERED)
    place = Place(tmp_path, Worker(3, 4), metrics)
    place.connect()
    place.find_out()
    assert place.at_broker == {DEALT}
    place.link.disconnect()
    place = Place(tmp_path, Worker(3, 2), metrics, hub=place.hub)
    assert place.shares.takes_all
    assert not place.shares.holds(sample())
    place.connect()
    assert not place.shares.is_drained
    place.find_out()
    assert place.at_broker == set()
    assert place.shares.is_drained
    assert place.shares.due_s() is None


def test_a_worker_that_leaves_takes_its_own_sensors_where_samples_were_split(
    tmp_path: Path, metrics: NodeMetrics, known: VerdictRecord
) -> None:
    known.write(Verdict.NOT_DELIVERED)
    place = Place(tmp_path, Worker(3, 4), metrics)
    place.connect()
    place.find_out()
    place.link.disconnect()
    place = Place(tmp_path, Worker(3, 2), metrics, hub=place.hub)
    assert not place.shares.takes_all
    sensors = [f"cam-{number}" for number in range(100)]
    assert [each for each in sensors if place.shares.takes(each)] == [
        each for each in sensors if Worker(3, 4).takes(each)
    ]
