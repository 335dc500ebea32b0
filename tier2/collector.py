"""Records, counts and labels on their way to the disk: put into messages that fit. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from shared.messages import (
    LABELS_SCHEMA_VERSION,
    SCHEMA_VERSION,
    Escalation,
    GateCount,
    SampleLabel,
    Telemetry,
    TelemetryRecord,
)
from shared.metrics import NodeMetrics
from tier2.answering import Record
from tier2.config import TelemetryConfig

MAX_COUNTS = 256
MAX_WAITING_COUNTS = 4096
MAX_COUNT = 2**53
MAX_LABELS = 256
MAX_WAITING_RECORDS = 10_000
MAX_WAITING_BYTES = 64 * 2**20
OVERHEAD_BYTES = 256  # of a record or a count, beside its arrays and its names


class Collector:
    """Holds records, counts and labels in memory until a message of them is on the disk.

    Labels travel in messages of their own: a cloud that knows none of them refuses those alone.

    Args:
        sender: this node's name.
        config: how large a message may be.
        metrics: what is counted.
    """

    def __init__(self, sender: str, config: TelemetryConfig, metrics: NodeMetrics) -> None:
        self._sender = sender
        self._config = config
        self._metrics = metrics
        # A message that the spool cannot hold would leave it at once.
        self._max_bytes = min(config.max_message_bytes, config.max_spool_bytes)
        self._records: list[tuple[Record, int]] = []
        self._bytes = 0
        self._counts: dict[tuple[str, str, str], GateCount] = {}
        self._labels: dict[tuple[str, str, str], SampleLabel] = {}

    def __len__(self) -> int:
        """Returns how many records, counts and labels it holds."""
        return len(self._records) + len(self._counts) + len(self._labels)

    @property
    def full(self) -> bool:
        """Whether a whole message is there."""
        return (
            len(self._records) >= self._config.max_records
            or len(self._counts) >= MAX_COUNTS
            or self._bytes >= self._max_bytes
        )

    def count(self, escalation: Escalation) -> None:
        """Adds what a node counted at its gate.

        Beyond what may wait for a disk, those of a new node or version are dropped and counted.
        """
        if not escalation.seen:
            return
        key = (escalation.node, escalation.pipeline, escalation.model_version)
        before = self._counts.get(key)
        if before is None and len(self._counts) >= MAX_WAITING_COUNTS:
            self._metrics.drops.labels(reason="too_many_counts").inc()
            return
        seen = escalation.seen + (before.seen if before else 0)
        unsure = escalation.unsure + (before.unsure if before else 0)
        alarms = escalation.drift_alarms + (before.drift_alarms if before else 0)
        self._counts[key] = GateCount(
            *key,
            min(seen, MAX_COUNT),
            min(unsure, MAX_COUNT),
            escalation.certificate,
            min(alarms, MAX_COUNT),
        )

    def add(self, records: Sequence[Record]) -> None:
        """Adds records. One that no message could hold is dropped and counted."""
        for record in records:
            size = _record_bytes(record.record)
            if size > self._max_bytes - OVERHEAD_BYTES:
                self._metrics.drops.labels(reason="record_too_large").inc()
                continue
            self._records.append((record, size))
            self._bytes += size

    def add_label(self, label: SampleLabel) -> None:
        """Adds a person's label. What waits is one for each sample, the latest that came."""
        self._labels[label.pipeline, label.sensor, label.id] = label

    def message(self) -> Telemetry:
        """Returns a message of the oldest, which stay until ``remove``."""
        if self._labels:
            return self._message_of_labels()
        counts = tuple(self._counts.values())[:MAX_COUNTS]
        room = self._max_bytes - OVERHEAD_BYTES
        records: list[TelemetryRecord] = []
        for record, size in self._records[: self._config.max_records]:
            if size > room:
                break
            room -= size
            records.append(record.record)
        fitting = []
        for count in counts:
            room -= _names_bytes(count.node, count.pipeline, count.model_version)
            if room < 0:
                break
            fitting.append(count)
        return Telemetry(
            SCHEMA_VERSION, self._sender, uuid.uuid4().hex, tuple(records), tuple(fitting)
        )

    def _message_of_labels(self) -> Telemetry:
        room = self._max_bytes - OVERHEAD_BYTES
        labels: list[SampleLabel] = []
        for label in self._labels.values():
            room -= _names_bytes(label.pipeline, label.sensor, label.id, label.label, label.by)
            if room < 0 or len(labels) >= MAX_LABELS:
                break
            labels.append(label)
        name = uuid.uuid4().hex
        return Telemetry(LABELS_SCHEMA_VERSION, self._sender, name, (), (), tuple(labels))

    def remove(self, message: Telemetry) -> None:
        """Forgets what is in a message that ``message`` returned last: it is on the disk."""
        self._forget(len(message.records))
        for count in message.counts:
            del self._counts[count.node, count.pipeline, count.model_version]
        for label in message.labels:
            del self._labels[label.pipeline, label.sensor, label.id]

    def shed(self) -> int:
        """Drops the oldest records beyond what may wait for a disk; returns how many.

        The message of a backlog that one of them is of is told, since it must not be confirmed.
        """
        excess, left_bytes = 0, self._bytes
        for (record, late), size in self._records:
            within = len(self._records) - excess <= MAX_WAITING_RECORDS
            if within and left_bytes <= MAX_WAITING_BYTES:
                break
            excess += 1
            left_bytes -= size
            if late is not None:
                late.lost.add(record.sample.correlation)
        self._forget(excess)
        return excess

    def _forget(self, count: int) -> None:
        self._bytes -= sum(size for _, size in self._records[:count])
        del self._records[:count]


def _record_bytes(record: TelemetryRecord) -> int:
    tensors = (record.tier1_probabilities, record.tier2_probabilities, record.input)
    arrays = sum(len(tensor.data) for tensor in tensors if tensor is not None)
    sample = record.sample
    return arrays + _names_bytes(
        sample.id, sample.sensor, str(sample.timestamp), record.node, record.pipeline,
        record.tier1_version, record.tier2_version,
    )  # fmt: skip


def _names_bytes(*names: str) -> int:
    """Returns an upper bound: four bytes a character, and what surrounds them."""
    return OVERHEAD_BYTES + 4 * sum(map(len, names))
