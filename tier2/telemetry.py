"""Telemetry on its way up: collected, kept on disk, sent, removed once the cloud has stored it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from shared.errors import PayloadError, StorageError
from shared.messages import Escalation, SampleLabel, TelemetryAck, pack, unpack
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.spool import Spool
from shared.topics import Topics
from tier2.answering import Record
from tier2.collector import Collector
from tier2.config import TelemetryConfig
from tier2.window import Window

log = logging.getLogger(__name__)


class Uplink:
    """Sends records, counts and labels to the cloud, each at least once.

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
        self._config = config
        self._spool = spool
        self._link = link
        self._metrics = metrics
        self._collector = Collector(node, config, metrics)
        self._window = Window(spool, config.retry_s)
        self._flush_s: float | None = None
        self._broken_until_s = -math.inf
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
        self._collector.count(escalation)
        self._schedule(now_s)

    def add(self, records: Sequence[Record], now_s: float) -> None:
        """Adds records."""
        self._collector.add(records)
        self._schedule(now_s)

    def add_label(self, label: SampleLabel, now_s: float) -> None:
        """Adds a person's label."""
        self._collector.add_label(label)
        self._schedule(now_s)

    @property
    def settled(self) -> bool:
        """Whether nothing waits, in memory or on the disk."""
        return not self._collector and self._spool.payload_bytes == 0

    def commit(self, now_s: float) -> bool:
        """Puts all that was added on the disk at once; returns False if the disk does not take it.

        What no message can hold is no part of it.
        """
        while self._collector and self._flush(now_s):
            pass
        return not self._collector

    def on_ack(self, payload: bytes) -> None:
        """Removes what the cloud has stored.

        Raises:
            PayloadError: not an acknowledgement.
            StorageError: the spool cannot be written.
        """
        ack = unpack(payload, TelemetryAck)
        self._spool.remove(ack.batches)
        self._window.confirmed(ack.batches)
        self._send_s = 0.0

    def on_connected(self) -> None:
        """Sends everything again that is not confirmed."""
        self._window.restart()
        self._send_s = 0.0

    def poll(self, now_s: float) -> None:
        """Moves what is due to the disk, and from the disk to the cloud."""
        if self._flush_s is not None and now_s >= self._flush_s:
            self.commit(now_s)
        while self._collector.full and self._flush(now_s):
            pass
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
        self._broken_until_s = -math.inf
        if not self.commit(0.0):
            self._metrics.drops.labels(reason="spool_broken").inc(len(self._collector))
        self._spool.close()

    def _schedule(self, now_s: float) -> None:
        if self._flush_s is None and self._collector:
            self._flush_s = now_s + self._config.max_delay_s

    def _flush(self, now_s: float) -> bool:
        """Puts the next message on the disk; returns False if the disk does not take it."""
        if now_s < self._broken_until_s:
            self._shed()
            return False
        message = self._collector.message()
        try:
            gone = self._spool.add_all([(message.batch, pack(message))])
        except StorageError as error:
            self._wait_for_disk(error, now_s)
            return False
        self._collector.remove(message)
        if gone:
            self._metrics.drops.labels(reason="spool_full").inc(gone)
        self._send_s = 0.0
        if not self._collector:
            self._flush_s = None
        return True

    def _wait_for_disk(self, error: StorageError, now_s: float) -> None:
        log.error("telemetry waits: %s", error)
        self._flush_s = self._broken_until_s = now_s + self._config.max_delay_s
        self._shed()

    def _shed(self) -> None:
        """Keeps a bounded number of records in memory until the disk takes them."""
        gone = self._collector.shed()
        if gone:
            self._metrics.drops.labels(reason="spool_broken").inc(gone)

    def _send(self, now_s: float) -> None:
        """Sends what is due; the next look is when a confirmation is overdue."""
        for entry in self._window.due(now_s):
            try:
                if not self._link.publish(self._topic, entry.payload):
                    return
            except PayloadError as error:
                log.error("a message of telemetry is dropped: %s", error)
                self._metrics.drops.labels(reason=error.reason).inc()
                self._spool.remove((entry.key,))
                continue
            self._window.sent(entry, now_s)
        due_s = self._window.due_s()
        self._send_s = now_s + self._config.retry_s if due_s is None else due_s
