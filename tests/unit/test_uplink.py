"""Telemetry leaves the disk only when the cloud itself says that it has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from shared.errors import PayloadError, StorageError
from shared.messages import Escalation, GateCount, Telemetry, TelemetryAck, Tensor, pack, unpack
from shared.metrics import NodeMetrics
from shared.spool import Spool, SpoolLimits
from shared.topics import Topics
from tests.builders import record
from tests.fakes import FakeBroker, FakeLink
from tier2.answering import Record
from tier2.config import TelemetryConfig
from tier2.telemetry import Uplink
from tier2.window import SIZE as WINDOW

TOPICS = Topics("escalon", "site-a")
CONFIG = TelemetryConfig(max_records=4, max_delay_s=1.0, retry_s=10.0)
LIMITS = SpoolLimits(2**20, 3600.0)


class Rig:
    """An uplink between a broker in memory and a file."""

    def __init__(self, folder: Path, limits: SpoolLimits) -> None:
        self.hub = FakeBroker()
        self.link = FakeLink(self.hub)
        self.metrics = NodeMetrics(CollectorRegistry())
        self.uplink = Uplink(
            node="tier2-a",
            config=CONFIG,
            spool=Spool(folder / "telemetry.sqlite", limits),
            link=self.link,
            topics=TOPICS,
            metrics=self.metrics,
        )
        self.uplink.start()

    @property
    def sent(self) -> list[Telemetry]:
        payloads = self.hub.payloads(TOPICS.telemetry("tier2-a"))
        return [unpack(payload, Telemetry) for payload in payloads]

    def acknowledge(self, *batches: str) -> None:
        self.uplink.on_ack(pack(TelemetryAck(1, batches)))

    def add(self, *numbers: int, now_s: float = 0.0) -> None:
        self.uplink.add([Record(record(number)) for number in numbers], now_s)

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@contextmanager
def rig_at(folder: Path, limits: SpoolLimits = LIMITS) -> Iterator[Rig]:
    rig = Rig(folder, limits)
    try:
        yield rig
    finally:
        rig.uplink.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_at(tmp_path) as rig:
        yield rig


def numbers(telemetry: Telemetry) -> list[int]:
    return [each.sample.correlation for each in telemetry.records]


def counts_of(seen: int, unsure: int, *, node: str = "tier1-a", version: str = "1") -> Escalation:
    nothing = Tensor("float32", (0, 3), b"")
    return Escalation(1, node, "meter", version, 500.0, seen, unsure, (), nothing, nothing)


def test_records_wait_for_company_and_leave_together(rig: Rig) -> None:
    rig.add(1)
    rig.add(2, now_s=0.9)
    rig.uplink.poll(0.99)
    assert rig.sent == []
    assert rig.uplink.due_s() == 1.0
    rig.uplink.poll(1.0)
    (telemetry,) = rig.sent
    assert numbers(telemetry) == [1, 2]
    assert telemetry.sender == "tier2-a"
    assert rig.uplink.due_s() is None


def test_a_full_message_does_not_wait(rig: Rig) -> None:
    rig.add(1, 2, 3, 4, 5)
    rig.uplink.poll(0.1)
    assert [numbers(each) for each in rig.sent] == [[1, 2, 3, 4]]
    rig.uplink.poll(1.1)
    assert [numbers(each) for each in rig.sent] == [[1, 2, 3, 4], [5]]


def test_counts_of_a_node_and_version_are_summed_and_sent_once(rig: Rig) -> None:
    rig.uplink.count(counts_of(10, 2), 0.0)
    rig.uplink.count(counts_of(5, 1), 0.1)
    rig.uplink.count(counts_of(7, 7, version="2"), 0.1)
    rig.uplink.count(counts_of(3, 0, node="tier1-b"), 0.1)
    rig.uplink.poll(1.0)
    (telemetry,) = rig.sent
    assert set(telemetry.counts) == {
        GateCount("tier1-a", "meter", "1", 15, 3),
        GateCount("tier1-a", "meter", "2", 7, 7),
        GateCount("tier1-b", "meter", "1", 3, 0),
    }
    rig.add(1, now_s=2.0)
    rig.uplink.poll(3.0)
    assert rig.sent[1].counts == ()


def test_alarms_are_summed_and_of_the_certificate_the_last_word_counts(rig: Rig) -> None:
    for alarms, certificate in ((0, "holds"), (2, "void"), (1, "broken")):
        counts = msgspec.structs.replace(
            counts_of(10, 2), drift_alarms=alarms, certificate=certificate
        )
        rig.uplink.count(counts, 0.0)
    rig.uplink.poll(1.0)
    (telemetry,) = rig.sent
    assert telemetry.counts == (GateCount("tier1-a", "meter", "1", 30, 6, "broken", 3),)


def test_the_brokers_acknowledgement_is_not_the_clouds(rig: Rig) -> None:
    rig.add(1)
    rig.uplink.poll(1.0)
    rig.link.receive()
    rig.uplink.poll(1.0 + 9.9)
    assert len(rig.sent) == 1
    rig.uplink.poll(1.0 + 10.0)
    assert len(rig.sent) == 2
    assert rig.sent[0] == rig.sent[1]
    assert rig.value("edge_spool_bytes") > 0


def test_what_the_cloud_has_stored_is_gone_and_not_sent_again(rig: Rig) -> None:
    rig.add(1)
    rig.uplink.poll(1.0)
    rig.acknowledge(rig.sent[0].batch)
    rig.acknowledge(rig.sent[0].batch, "never-seen")
    rig.uplink.poll(100.0)
    assert len(rig.sent) == 1
    assert rig.value("edge_spool_bytes") == 0


def test_an_acknowledgement_of_one_batch_leaves_the_others(rig: Rig) -> None:
    for number in (1, 2):
        rig.add(number, now_s=float(number))
        rig.uplink.poll(number + 1.0)
    rig.acknowledge(rig.sent[0].batch)
    rig.uplink.poll(50.0)
    assert [numbers(each) for each in rig.sent] == [[1], [2], [2]]


def test_bytes_that_are_no_acknowledgement_remove_nothing(rig: Rig) -> None:
    rig.add(1)
    rig.uplink.poll(1.0)
    with pytest.raises(PayloadError):
        rig.uplink.on_ack(b"garbage")
    assert rig.value("edge_spool_bytes") > 0


def test_without_the_cloud_all_waits_on_the_disk_and_leaves_at_the_connect(rig: Rig) -> None:
    rig.link.disconnect()
    rig.add(1, 2, 3, 4)
    rig.uplink.poll(0.0)
    assert rig.sent == []
    assert rig.value("edge_spool_bytes") > 0
    rig.link.connect()
    rig.uplink.on_connected()
    rig.uplink.poll(0.1)
    assert [numbers(each) for each in rig.sent] == [[1, 2, 3, 4]]


def test_a_reconnect_sends_again_at_once_what_is_not_confirmed(rig: Rig) -> None:
    rig.add(1)
    rig.uplink.poll(1.0)
    rig.link.disconnect()
    rig.link.connect()
    rig.uplink.on_connected()
    rig.uplink.poll(1.1)
    assert len(rig.sent) == 2


def test_a_link_that_takes_nothing_is_asked_again_at_the_next_turn(rig: Rig) -> None:
    rig.add(1)
    rig.link.full = True
    rig.uplink.poll(1.0)
    rig.link.full = False
    rig.uplink.poll(1.01)
    assert len(rig.sent) == 1


def test_what_was_not_confirmed_survives_a_restart(tmp_path: Path) -> None:
    with rig_at(tmp_path) as rig:
        rig.add(1)
        rig.uplink.poll(1.0)
        first = rig.sent[0]
        rig.add(2, now_s=2.0)
    with rig_at(tmp_path) as again:
        again.uplink.poll(0.0)
        assert again.sent[0] == first
        assert [numbers(each) for each in again.sent] == [[1], [2]]
        again.acknowledge(*(each.batch for each in again.sent))
    with rig_at(tmp_path) as last:
        last.uplink.poll(0.0)
        assert last.sent == []


def test_a_long_backlog_leaves_a_window_at_a_time_oldest_first(rig: Rig) -> None:
    rig.link.disconnect()
    for number in range(WINDOW + 3):
        rig.add(number, now_s=2.0 * number)
        rig.uplink.poll(2.0 * number + 1.0)
    rig.link.connect()
    rig.uplink.poll(100.0)
    rig.uplink.poll(100.1)
    assert [numbers(each) for each in rig.sent] == [[number] for number in range(WINDOW)]
    rig.acknowledge(rig.sent[0].batch, rig.sent[1].batch)
    rig.uplink.poll(100.2)
    assert [numbers(each) for each in rig.sent[WINDOW:]] == [[WINDOW], [WINDOW + 1]]


def test_past_the_spools_limit_the_oldest_batches_go_and_are_counted(tmp_path: Path) -> None:
    size = len(pack(Telemetry(1, "tier2-a", "b" * 32, (record(1),), ())))
    with rig_at(tmp_path, SpoolLimits(2 * size + 10, 3600.0)) as rig:
        rig.link.disconnect()
        for number in (1, 2, 3):
            rig.add(number, now_s=2.0 * number)
            rig.uplink.poll(2.0 * number + 1.0)
        rig.link.connect()
        rig.uplink.poll(50.0)
        assert [numbers(each) for each in rig.sent] == [[2], [3]]
        assert rig.value("edge_drops_total", reason="spool_full") == 1


def test_a_disk_that_does_not_take_it_delays_and_loses_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise StorageError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "add_all", broken)
        rig.add(1)
        rig.uplink.count(counts_of(10, 2), 0.0)
        rig.uplink.poll(1.0)
        assert rig.sent == []
        assert rig.uplink.due_s() == 2.0
    rig.uplink.poll(2.0)
    (telemetry,) = rig.sent
    assert numbers(telemetry) == [1]
    assert telemetry.counts[0].seen == 10


def test_a_disk_that_fails_for_good_ends_nothing_and_works_when_it_is_back(
    tmp_path: Path,
) -> None:
    folder, away = tmp_path / "disk", tmp_path / "away"
    with rig_at(folder) as rig:
        rig.add(1)
        rig.uplink.poll(1.0)
        rig.uplink._spool.close()
        folder.rename(away)
        folder.write_bytes(b"no folder")
        rig.add(2, now_s=2.0)
        rig.uplink.on_connected()
        rig.uplink.poll(3.0)
        assert not rig.uplink.commit(3.1)
        with pytest.raises(StorageError):
            rig.acknowledge("any")
        folder.unlink()
        away.rename(folder)
        rig.uplink.poll(5.0)
        assert [numbers(each) for each in rig.sent] == [[1], [1], [2]]


def test_a_spool_that_is_damaged_meanwhile_is_begun_anew(rig: Rig, tmp_path: Path) -> None:
    rig.link.disconnect()
    for number in range(100):
        rig.add(number, now_s=2.0 * number)
        rig.uplink.poll(2.0 * number + 1.0)
    rig.uplink._spool.close()
    path = tmp_path / "telemetry.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
    rig.link.connect()
    rig.uplink.on_connected()
    for second in range(5):
        rig.add(1000 + second, now_s=300.0 + 1.5 * second)
        rig.uplink.poll(301.0 + 1.5 * second)
    assert [numbers(each) for each in rig.sent] == [[1000 + second] for second in range(5)]
    assert (tmp_path / "telemetry.corrupt").exists()


def test_what_waits_for_a_disk_is_bounded_at_every_turn(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise StorageError("disk full")

    monkeypatch.setattr("tier2.collector.MAX_WAITING_RECORDS", 6)
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "add_all", broken)
        rig.add(1)
        rig.uplink.poll(1.0)
        rig.add(*range(2, 20), now_s=1.1)
        rig.uplink.poll(1.2)  # before the disk is tried again
    assert rig.value("edge_drops_total", reason="spool_broken") == 13
    rig.uplink.poll(2.0)
    assert [numbers(each) for each in rig.sent] == [[14, 15, 16, 17], [18, 19]]
