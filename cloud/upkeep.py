"""Keeps the store in order beside the loop: inputs into files, out with what is past a limit."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor

from cloud.store import TelemetryStore
from shared.errors import StorageError
from shared.metrics import CloudMetrics

EVERY_S = 10.0
RETRY_S = 60.0

log = logging.getLogger(__name__)


class Upkeep:
    """Has the store do a bounded part of its upkeep at a time, in a thread.

    Args:
        store: the telemetry.
        metrics: what is counted.
    """

    def __init__(self, store: TelemetryStore, metrics: CloudMetrics) -> None:
        self._store = store
        self._metrics = metrics
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: Future[bool] | None = None
        self._due_s = 0.0

    def poll(self, now_s: float) -> None:
        """Begins a part, or looks what became of one.

        Args:
            now_s: monotonic.
        """
        if self._under_way is None:
            if now_s >= self._due_s:
                self._thread = self._thread or ThreadPoolExecutor(1, "upkeep")
                self._under_way = self._thread.submit(self._turn)
            return
        if not self._under_way.done():
            return
        part, self._under_way = self._under_way, None
        try:
            self._due_s = now_s + (0.0 if part.result() else EVERY_S)
        except StorageError as error:
            log.error("the store's upkeep waits: %s", error)
            self._due_s = now_s + RETRY_S

    @property
    def busy(self) -> bool:
        """Whether a part is under way."""
        return self._under_way is not None

    def close(self) -> None:
        """Waits for what is under way: a bounded part."""
        if self._thread is not None:
            self._thread.shutdown()

    def _turn(self) -> bool:
        lost = self._store.lost_inputs
        try:
            return self._store.upkeep(time.time())
        finally:
            self._metrics.drops.labels(reason="lost_input").inc(self._store.lost_inputs - lost)
            self._metrics.store_bytes.set(self._store.stored_bytes())
