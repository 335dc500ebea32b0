"""Telemetry on its way into the store: one transaction a turn, then the acknowledgements."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from cloud.store import Arrived, RowsRefusedError, Stored, TelemetryStore
from cloud.telemetry_shares import TelemetryShares
from shared.errors import PayloadError, StorageError
from shared.messages import SCHEMA_VERSION, Telemetry, TelemetryAck, pack, unpack
from shared.metrics import CloudMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.topics import Topics, site_of

MAX_PENDING_BYTES = 8 * 2**20
"""Of messages that wait for the end of the turn; past it they are stored at once."""

log = logging.getLogger(__name__)


class Ingestion:
    """Stores telemetry, and acknowledges what is stored.

    What came in one turn of the loop is committed together: the disk is asked once for all of it,
    and while it works, the next messages come together at the socket.

    Args:
        prefix: first level of the topics.
        link: the cloud's broker.
        store: the telemetry.
        shares: which telemetry is this process's.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        prefix: str,
        link: Link,
        store: TelemetryStore,
        shares: TelemetryShares,
        metrics: CloudMetrics,
    ) -> None:
        self._prefix = prefix
        self._link = link
        self._store = store
        self._shares = shares
        self._metrics = metrics
        self._pending: list[Arrived] = []
        self._pending_bytes = 0
        self._withheld: set[str] = set()

    def start(self) -> None:
        """Opens the store, says what to subscribe to.

        Raises:
            StorageError: the store cannot be opened.
        """
        self._store.open()
        self._shares.start()

    def take(self, message: Message) -> None:
        """Takes a message of telemetry, or of the probe; what is neither is counted."""
        if self._shares.take(message):
            return
        try:
            self._pending.append(self._read(message))
        except PayloadError as error:
            log.warning("%s: %s", message.topic, error)
            self._metrics.drops.labels(reason=error.reason).inc()
            return
        self._pending_bytes += len(message.payload)
        if self._pending_bytes >= MAX_PENDING_BYTES:
            self._commit()

    def turn(self, now_s: float) -> None:
        """Stores what came, and acknowledges it.

        Args:
            now_s: monotonic.
        """
        self._shares.poll(now_s)
        self._commit()

    def due_s(self) -> float | None:
        """Returns when ``turn`` is due though nothing came, monotonic, or None."""
        return self._shares.due_s()

    def close(self) -> None:
        """Closes the store. What was not acknowledged comes again."""
        self._store.close()

    def _read(self, message: Message) -> Arrived:
        telemetry, site = unpack(message.payload, Telemetry), site_of(message.topic)
        if site is None or self._topics(site).telemetry(telemetry.sender) != message.topic:
            problem = f"telemetry of {telemetry.sender!r} is out of place"
            raise PayloadError("bad_topic", problem)
        return Arrived(site, telemetry)

    def _commit(self) -> None:
        arrivals, self._pending, self._pending_bytes = self._pending, [], 0
        if not arrivals:
            return
        try:
            self._store_all(arrivals)
        except RowsRefusedError:
            self._store_each(arrivals)
        except StorageError as error:
            self._leave(len(arrivals), error)

    def _store_each(self, arrivals: Sequence[Arrived]) -> None:
        """Stores messages one by one: one of them the database does not take."""
        for each in arrivals:
            try:
                self._store_all([each])
            except StorageError as error:
                self._leave(1, error)

    def _store_all(self, arrivals: Sequence[Arrived]) -> None:
        stored = self._store.add(arrivals, time.time())
        self._count(stored)
        by_sender: dict[tuple[str, str], list[str]] = {}
        for each in arrivals:
            sender = (each.site, each.telemetry.sender)
            by_sender.setdefault(sender, []).append(each.telemetry.batch)
        for (site, sender_name), batches in by_sender.items():
            ack = TelemetryAck(SCHEMA_VERSION, tuple(batches))
            self._link.publish(self._topics(site).telemetry_acks(sender_name), pack(ack))

    def _leave(self, count: int, error: StorageError) -> None:
        # Not acknowledged, so tier-2 keeps it and sends it again.
        log.error("%d messages of telemetry are left to their sites: %s", count, error)
        self._metrics.drops.labels(reason="storage").inc(count)

    def _count(self, stored: Stored) -> None:
        metrics, labels = self._metrics, stored.labels
        metrics.samples.inc(stored.samples)
        metrics.drops.labels(reason="broken_record").inc(stored.broken)
        metrics.drops.labels(reason="repeated_record").inc(stored.known)
        for outcome in ("joined", "waiting", "repeated", "refused", "dropped"):
            metrics.labels.labels(outcome=outcome).inc(getattr(labels, outcome))
        for pipeline, count in stored.withheld.items():
            metrics.withheld.labels(pipeline=pipeline).inc(count)
            if pipeline not in self._withheld:
                self._withheld.add(pipeline)
                log.warning(
                    "%s: samples come without their inputs, which stay on their sites "
                    "(uplink.inputs of a tier-2 node): what needs inputs cannot use them",
                    pipeline,
                )

    def _topics(self, site: str) -> Topics:
        return Topics(self._prefix, site)
