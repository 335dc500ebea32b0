"""Records and counts are put together into messages that no broker refuses."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from shared.messages import Escalation, Telemetry, TelemetryRecord, Tensor, pack
from shared.metrics import NodeMetrics
from tests.builders import record
from tier2.admission import LateMessage
from tier2.answering import Record
from tier2.collector import MAX_COUNT, MAX_COUNTS, MAX_WAITING_COUNTS, Collector
from tier2.config import TelemetryConfig

CAP_BYTES = 2**14


def make() -> Collector:
    config = TelemetryConfig(max_records=100, max_message_bytes=CAP_BYTES)
    return Collector("tier2-a", config, NodeMetrics(CollectorRegistry()))


def wide(number: int, size: int) -> TelemetryRecord:
    """A record whose input takes so many bytes."""
    features = Tensor.of(np.zeros(size // 4, np.float32))
    return msgspec.structs.replace(record(number), input=features)


def kept(*records: TelemetryRecord, late: LateMessage | None = None) -> list[Record]:
    return [Record(each, late) for each in records]


def counts(number: int) -> Escalation:
    nothing = Tensor("float32", (0, 3), b"")
    return Escalation(1, f"n{number}", "meter", "v" * 200, 0.0, 5, 1, (), nothing, nothing)


def drain(collector: Collector) -> list[Telemetry]:
    messages = []
    while collector:
        messages.append(collector.message())
        collector.remove(messages[-1])
    return messages


def dropped(collector: Collector, reason: str) -> float:
    registry = collector._metrics.registry
    return registry.get_sample_value("edge_drops_total", {"reason": reason}) or 0.0


def test_messages_stay_below_the_cap_and_lose_nothing() -> None:
    collector = make()
    collector.add(kept(*(wide(number, 3000) for number in range(20))))
    for number in range(60):
        collector.count(counts(number))
    messages = drain(collector)
    assert all(len(pack(message)) <= CAP_BYTES for message in messages)
    numbers = [each.sample.correlation for message in messages for each in message.records]
    assert numbers == list(range(20))
    assert len({count.node for message in messages for count in message.counts}) == 60
    assert len({message.batch for message in messages}) == len(messages)


def test_a_record_that_no_message_could_hold_is_dropped_and_counted() -> None:
    collector = make()
    collector.add(kept(wide(1, CAP_BYTES), wide(2, 100)))
    (message,) = drain(collector)
    assert [each.sample.correlation for each in message.records] == [2]
    assert dropped(collector, "record_too_large") == 1


def test_it_is_full_by_bytes_or_by_counts() -> None:
    collector = make()
    collector.add(kept(*(wide(number, 6000) for number in range(2))))
    assert not collector.full
    collector.add(kept(wide(3, 6000)))
    assert collector.full
    other = make()
    for number in range(MAX_COUNTS):
        assert not other.full
        other.count(counts(number))
    assert other.full


def test_what_is_not_removed_stays() -> None:
    collector = make()
    collector.add(kept(record(1)))
    first = collector.message()
    assert collector.message().records == first.records
    assert len(collector) == 1


def test_a_message_that_counted_nothing_adds_nothing() -> None:
    collector = make()
    collector.count(msgspec.structs.replace(counts(1), seen=0, unsure=0))
    assert not collector


def test_beyond_what_may_wait_for_a_disk_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tier2.collector.MAX_WAITING_RECORDS", 3)
    collector = make()
    collector.add(kept(*(record(number) for number in range(5))))
    assert collector.shed() == 2
    assert collector.shed() == 0
    (message,) = drain(collector)
    assert [each.sample.correlation for each in message.records] == [2, 3, 4]


def test_what_waits_for_a_disk_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tier2.collector.MAX_WAITING_BYTES", 10_000)
    collector = make()
    collector.add(kept(*(wide(number, 3000) for number in range(5))))
    assert collector.shed() == 3


def test_the_message_of_a_backlog_is_told_which_of_its_records_went(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tier2.collector.MAX_WAITING_RECORDS", 2)
    collector = make()
    first, second = (LateMessage("tier1-a", "tier1-a", (), 0, 0) for _ in range(2))
    collector.add(kept(record(-1), record(-2), late=first))
    collector.add(kept(record(-3), late=second))
    assert collector.shed() == 1
    assert (first.lost, second.lost) == ({-1}, set())


def test_counts_that_wait_for_a_disk_are_bounded_and_those_that_are_known_go_on() -> None:
    collector = make()
    for number in range(MAX_WAITING_COUNTS + 5):
        collector.count(counts(number))
    assert len(collector) == MAX_WAITING_COUNTS
    assert dropped(collector, "too_many_counts") == 5
    collector.count(counts(0))
    assert collector.message().counts[0].seen == 10


def test_a_count_stays_a_number_that_a_message_can_hold() -> None:
    collector = make()
    for _ in range(3):
        collector.count(
            msgspec.structs.replace(counts(1), seen=MAX_COUNT - 1, unsure=MAX_COUNT - 1)
        )
    message = collector.message()
    assert (message.counts[0].seen, message.counts[0].unsure) == (MAX_COUNT, MAX_COUNT)
    pack(message)


def test_no_message_is_larger_than_the_spool_may_hold() -> None:
    config = TelemetryConfig(max_message_bytes=2**20, max_spool_bytes=2**16)
    collector = Collector("tier2-a", config, NodeMetrics(CollectorRegistry()))
    collector.add(kept(*(wide(number, 30_000) for number in range(5)), wide(9, 2**16)))
    assert dropped(collector, "record_too_large") == 1
    assert all(len(pack(message)) <= 2**16 for message in drain(collector))
