"""Fetches an artefact's chunks over MQTT."""

from __future__ import annotations

import logging

from shared.errors import DigestError
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.releases.artefact import Artefact
from shared.releases.blobs import BlobStore
from shared.topics import Topics

WINDOW = 16
ASK_AGAIN_S = 5.0

log = logging.getLogger(__name__)


class Fetch:
    """One artefact on its way to the disk.

    It subscribes to the exact topics of a window of missing chunks, never to a wildcard: every
    subscription makes the broker send all retained messages that match. At QoS 0, so that no chunk
    waits for its acknowledgement behind the samples; one that is lost is asked for again.

    Args:
        artefact: what to fetch.
        blobs: where to.
        link: from where.
        topics: of the site that it is fetched from.
        metrics: counts refused chunks.
    """

    def __init__(
        self, artefact: Artefact, blobs: BlobStore, link: Link, topics: Topics, metrics: NodeMetrics
    ) -> None:
        self._artefact = artefact
        self._blobs = blobs
        self._link = link
        self._topics = topics
        self._metrics = metrics
        self._missing: set[int] = set()
        self._asked: set[int] = set()
        self._ask_again_s = 0.0
        self.bytes_fetched = 0

    def begin(self, now_s: float) -> None:
        """Asks for what is not on disk yet."""
        if not self._blobs.has(self._artefact):
            self._missing = set(self._blobs.missing(self._artefact))
        self._ask(now_s)

    @property
    def complete(self) -> bool:
        """Whether every chunk is on disk."""
        return not self._missing

    def on_chunk(self, index: int, data: bytes, now_s: float) -> None:
        """Takes a chunk; one that is not the signed one is dropped, counted and asked for again.

        Raises:
            StorageError: the disk does not take it.
        """
        if index not in self._missing:
            return
        try:
            self._blobs.add_chunk(self._artefact, index, data)
        except DigestError as error:
            log.warning("%s", error)
            self._metrics.drops.labels(reason="bad_chunk").inc()
            return
        self.bytes_fetched += len(data)
        self._missing.discard(index)
        self._asked.discard(index)
        self._link.unsubscribe(self._topic(index))
        self._ask(now_s)

    def poll(self, now_s: float) -> None:
        """Asks again for what did not come: the broker may have forgotten it and got it back."""
        if self._missing and now_s >= self._ask_again_s:
            self._asked.clear()
            self._ask(now_s)

    def end(self) -> None:
        """Ends what is subscribed."""
        for index in self._missing:
            self._link.unsubscribe(self._topic(index))

    def _ask(self, now_s: float) -> None:
        window = sorted(self._missing)[:WINDOW]
        for index in window:
            if index not in self._asked:
                self._asked.add(index)
                self._ask_again_s = now_s + ASK_AGAIN_S
                self._link.subscribe(self._topic(index), 0)

    def _topic(self, index: int) -> str:
        return self._topics.blob(self._artefact.sha256, index)
