"""Telemetry is acknowledged once it is stored, and cloud processes share it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from cloud.ingestion import Ingestion
from cloud.store import Arrived, Stored, TelemetryStore
from cloud.telemetry_shares import TelemetryShares
from shared.errors import StorageError
from shared.messages import SampleLabel, Telemetry, TelemetryAck, pack, unpack
from shared.metrics import CloudMetrics
from shared.topics import Topics
from tests.builders import LABELS, record
from tests.fakes import FakeBroker, FakeLink

CLOUD = Topics("escalon", "cloud")
SITE = Topics("escalon", "plant")
ACKS = SITE.telemetry_acks("hub")


class Cloud:
    """One process that stores telemetry."""

    def __init__(self, hub: FakeBroker, folder: Path, name: str) -> None:
        self.link = FakeLink(hub, client_id=name)
        self.metrics = CloudMetrics(CollectorRegistry())
        self.store = TelemetryStore(
            f"sqlite:///{folder}/t.sqlite", str(folder / "inputs"), classes={"meter": LABELS}
        )
        shares = TelemetryShares(CLOUD, name, "group", self.link, random.Random(name))
        self.ingestion = Ingestion(
            prefix="escalon", link=self.link, store=self.store, shares=shares, metrics=self.metrics
        )
        self.ingestion.start()
        self.now_s = 100.0

    def turn(self) -> None:
        self.now_s += 1
        for message in self.link.receive():
            self.ingestion.take(message)
            self.link.done(message)
        self.ingestion.turn(self.now_s)

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def hub() -> FakeBroker:
    return FakeBroker(delivers_shared=True)


@pytest.fixture
def cloud(hub: FakeBroker, tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(hub, tmp_path, "cloud-1")
    yield made
    made.store.close()


def message(batch: str, *numbers: int, sender: str = "hub", **changes: object) -> bytes:
    records = tuple(record(number) for number in numbers)
    return pack(Telemetry(1, sender, batch, records, (), **changes))  # type: ignore[arg-type]


def acks(hub: FakeBroker, topic: str = ACKS) -> list[tuple[str, ...]]:
    return [unpack(each, TelemetryAck).batches for each in hub.payloads(topic)]


def test_what_came_in_a_turn_is_stored_at_once_and_acknowledged_together(
    cloud: Cloud, hub: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    add = TelemetryStore.add

    def noting(self: TelemetryStore, arrivals: list[Arrived], now_s: float) -> Stored:
        commits.append(len(arrivals))
        return add(self, arrivals, now_s)

    monkeypatch.setattr(TelemetryStore, "add", noting)
    for number in range(3):
        hub.publish(SITE.telemetry("hub"), message(f"b-{number}", number))
    hub.publish(SITE.telemetry("hub-2"), message("x", 7, sender="hub-2"))
    cloud.turn()
    assert commits == [4]
    assert acks(hub) == [("b-0", "b-1", "b-2")]
    assert acks(hub, SITE.telemetry_acks("hub-2")) == [("x",)]
    assert cloud.value("edge_telemetry_samples_total") == 4


def test_a_repeated_batch_is_acknowledged_again_and_counted_once(
    cloud: Cloud, hub: FakeBroker
) -> None:
    for _ in range(2):
        hub.publish(SITE.telemetry("hub"), message("a", 1))
        cloud.turn()
    assert acks(hub) == [("a",), ("a",)]
    assert cloud.value("edge_telemetry_samples_total") == 1


def test_what_the_store_does_not_take_is_not_acknowledged(
    cloud: Cloud, hub: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> Stored:
        raise StorageError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(cloud.store, "add", full)
        hub.publish(SITE.telemetry("hub"), message("a", 1))
        cloud.turn()
    assert acks(hub) == []
    assert cloud.value("edge_drops_total", reason="storage") == 1
    hub.publish(SITE.telemetry("hub"), message("a", 1))
    cloud.turn()
    assert acks(hub) == [("a",)]


def test_one_message_that_cannot_be_stored_does_not_hold_up_the_others(
    cloud: Cloud, hub: FakeBroker
) -> None:
    for batch in ("a", "b" * 65, "c"):
        hub.publish(SITE.telemetry("hub"), message(batch, ord(batch[0])))
    cloud.turn()
    assert acks(hub) == [("a",), ("c",)]
    assert cloud.value("edge_drops_total", reason="storage") == 1


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        pytest.param(SITE.telemetry("hub"), b"\xc1", "not_telemetry", id="bytes"),
        pytest.param(SITE.telemetry("other"), message("a", 1), "bad_topic", id="other-sender"),
        pytest.param(
            SITE.telemetry("hub"), pack(Telemetry(3, "hub", "a", (), ())), "newer_schema", id="new"
        ),
    ],
)
def test_what_is_no_telemetry_is_counted(
    cloud: Cloud, hub: FakeBroker, topic: str, payload: bytes, reason: str
) -> None:
    hub.publish(topic, payload)
    cloud.turn()
    assert cloud.value("edge_drops_total", reason=reason) == 1
    assert acks(hub) == []


def test_much_that_comes_in_one_turn_is_stored_before_its_end(
    cloud: Cloud, hub: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.ingestion.MAX_PENDING_BYTES", 1)
    for number in range(3):
        hub.publish(SITE.telemetry("hub"), message(f"b-{number}", number))
    cloud.turn()
    assert acks(hub) == [("b-0",), ("b-1",), ("b-2",)]


def test_labels_broken_records_and_inputs_that_stay_away_are_counted_and_said(
    cloud: Cloud, hub: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    labels = (
        SampleLabel("meter", "cam-01", "id-1", "one", "", 5.0),
        SampleLabel("meter", "cam-01", "id-9", "one", "", 5.0),
        SampleLabel("meter", "cam-01", "id-1", "four", "", 5.0),
    )
    records = (record(1), record(2, with_input=False), record(3, with_input=False))
    hub.publish(SITE.telemetry("hub"), pack(Telemetry(2, "hub", "a", records, (), labels)))
    cloud.turn()
    assert cloud.value("edge_labels_total", outcome="joined") == 1
    assert cloud.value("edge_labels_total", outcome="waiting") == 1
    assert cloud.value("edge_labels_total", outcome="refused") == 1
    assert cloud.value("edge_inputs_withheld_total", pipeline="meter") == 2
    assert caplog.text.count("stay on their sites") == 1


def settle(*clouds: Cloud) -> None:
    """Lets the probes find out what the broker does."""
    for _ in range(10):
        for each in clouds:
            each.turn()


def test_processes_of_a_group_store_each_message_between_them(
    hub: FakeBroker, tmp_path: Path
) -> None:
    clouds = [Cloud(hub, tmp_path, f"cloud-{number}") for number in range(3)]
    settle(*clouds)
    for number in range(30):
        hub.publish(SITE.telemetry("hub"), message(f"b-{number}", number))
    settle(*clouds)
    shares = [cloud.value("edge_telemetry_samples_total") for cloud in clouds]
    assert shares == [10.0, 10.0, 10.0]
    assert sorted(batch for part in acks(hub) for batch in part) == sorted(
        f"b-{number}" for number in range(30)
    )
    assert len(clouds[0].store.traffic("meter", limit=100)) == 30
    for cloud in clouds:
        cloud.store.close()


def test_where_shared_subscriptions_bring_nothing_each_message_is_stored_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub = FakeBroker(delivers_shared=False)
    clouds = [Cloud(hub, tmp_path, f"cloud-{number}") for number in range(2)]
    settle(*clouds)
    assert "every cloud process stores all telemetry" in caplog.text
    for number in range(10):
        hub.publish(SITE.telemetry("hub"), message(f"b-{number}", number))
    settle(*clouds)
    assert sum(cloud.value("edge_telemetry_samples_total") for cloud in clouds) == 10
    for cloud in clouds:
        cloud.store.close()


def test_a_process_that_dies_leaves_its_share_to_the_others(
    hub: FakeBroker, tmp_path: Path
) -> None:
    clouds = [Cloud(hub, tmp_path, f"cloud-{number}") for number in range(2)]
    settle(*clouds)
    hub.publish(SITE.telemetry("hub"), message("a", 1))
    clouds[0].link.disconnect()  # it took the message, and stored nothing
    clouds[1].link.receive()
    assert acks(hub) == []
    for number in range(3):
        hub.publish(SITE.telemetry("hub"), message(f"b-{number}", 10 + number))
    settle(clouds[1])
    assert clouds[1].value("edge_telemetry_samples_total") == 3
    for cloud in clouds:
        cloud.store.close()
