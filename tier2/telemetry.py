"""Telemetry on its way up: collected, kept on disk, sent, removed once the cloud has stored it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence

from shared.errors import StorageError
from shared.messages import (
    SCHEMA_VERSION,
    Escalation,
    GateCount,
    Telemetry,
    TelemetryAck,
    TelemetryRecord,
    pack,
    unpack,
)
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.spool import Spool
from shared.topics import Topics
from tier2.config import TelemetryConfig

WINDOW = 8
MAX_WAITING_RECORDS = 10_000

log = logging.getLogger(__name__)


class Uplink:
    """Sends records and counts to the cloud, each at least once.

    A PUBACK is no proof that anybody has a message, so an entry leaves the spool only on the
    cloud's own acknowledgement.

    Args:
        node: this node's name.
        config: how.
        spool: where what is unconfirmed waits.
        link: the cloud's broker.
        topics: of this site.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        node: str,
        config: TelemetryConfig,
        spool: Spool,
        link: Link,
        topics: Topics,
        metrics: NodeMetrics,
    ) -> None:
        self.acks_topic = topics.telemetry_acks(node)
        self._topic = topics.telemetry(node)
        self._node = node
        self._config = config
        self._spool = spool
        self._link = link
        self._metrics = metrics
        self._records: list[TelemetryRecord] = []
        self._counts: dict[tuple[str, str, str], GateCount] = {}
        self._flush_s: float | None = None
        self._sent: dict[str, float] = {}
        self._send_s = 0.0

    def start(self) -> None:
        """Opens the spool and subscribes to the acknowledgements.

        Raises:
            StorageError: the spool cannot be opened.
        """
        self._spool.open()
        self._link.subscribe(self.acks_topic)

    def count(self, escalation: Escalation, now_s: float) -> None:
        """Adds a tier-1 node's counts."""
        key = (escalation.node, escalation.pipeline, escalation.model_version)
        before = self._counts.get(key)
        seen = escalation.seen + (before.seen if before else 0)
        unsure = escalation.unsure + (before.unsure if before else 0)
        self._counts[key] = GateCount(*key, seen, unsure)
        self._schedule(now_s)

    def add(self, records: Sequence[TelemetryRecord], now_s: float) -> None:
        """Adds records."""
        self._records.extend(records)
        self._schedule(now_s)

    def on_ack(self, payload: bytes) -> None:
        """Removes what the cloud has stored.

        Raises:
            PayloadError: not an acknowledgement.
            StorageError: the spool cannot be written.
        """
        ack = unpack(payload, TelemetryAck)
        self._spool.remove(ack.batches)
        for batch in ack.batches:
            self._sent.pop(batch, None)
        self._send_s = 0.0

    def on_connected(self) -> None:
        """Sends everything again that is not confirmed."""
        self._sent.clear()
        self._send_s = 0.0

    def poll(self, now_s: float) -> None:
        """Moves what is due to the disk, and from the disk to the cloud."""
        due = self._flush_s is not None and now_s >= self._flush_s
        if due or len(self._records) >= self._config.max_records:
            self._flush(now_s)
        if self._link.connected and now_s >= self._send_s:
            try:
                self._send(now_s)
            except StorageError as error:
                log.error("telemetry waits: %s", error)
                self._send_s = now_s + self._config.max_delay_s
        self._metrics.spool_bytes.set(self._spool.payload_bytes)

    def due_s(self) -> float | None:
        """Returns when the next message is due, monotonic, or None."""
        return self._flush_s

    def close(self) -> None:
        """Puts what is left on the disk."""
        waiting = len(self._records) + 1
        while (self._records or self._counts) and len(self._records) < waiting:
            waiting = len(self._records)
            self._flush(0.0)
        self._metrics.drops.labels(reason="spool_broken").inc(len(self._records))
        self._spool.close()

    def _schedule(self, now_s: float) -> None:
        if self._flush_s is None:
            self._flush_s = now_s + self._config.max_delay_s

    def _flush(self, now_s: float) -> None:
        if not self._records and not self._counts:
            return
        records = tuple(self._records[: self._config.max_records])
        batch = uuid.uuid4().hex
        message = Telemetry(
            SCHEMA_VERSION, self._node, batch, records, tuple(self._counts.values())
        )
        try:
            gone = self._spool.add(batch, pack(message))
        except StorageError as error:
            self._wait_for_disk(error, now_s)
            return
        self._metrics.drops.labels(reason="spool_full").inc(gone)
        self._send_s = 0.0
        del self._records[: len(records)]
        self._counts.clear()
        self._flush_s = now_s if self._records else None

    def _wait_for_disk(self, error: StorageError, now_s: float) -> None:
        """Keeps a bounded number of records in memory until the disk takes them."""
        log.error("telemetry waits: %s", error)
        self._flush_s = now_s + self._config.max_delay_s
        excess = max(0, len(self._records) - MAX_WAITING_RECORDS)
        del self._records[:excess]
        self._metrics.drops.labels(reason="spool_broken").inc(excess)

    def _send(self, now_s: float) -> None:
        """Sends the oldest entries that are not on their way; the next look is at a retry."""
        for batch, payload in self._spool.oldest(WINDOW):
            sent_s = self._sent.get(batch)
            if sent_s is not None and now_s < sent_s + self._config.retry_s:
                continue
            if not self._link.publish(self._topic, payload):
                return
            self._sent[batch] = now_s
        self._send_s = min(self._sent.values(), default=now_s) + self._config.retry_s
