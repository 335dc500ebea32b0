"""Sends chunks to the nodes that ask for them, for artefacts that no broker retains."""

from __future__ import annotations

import logging

from prometheus_client import Counter

from shared.errors import PayloadError, StorageError
from shared.messages import BlobRequest, unpack
from shared.mqtt.link import Link
from shared.releases.artefact import Artefact
from shared.releases.blobs import BlobStore
from shared.releases.request_queue import RequestQueue, Wanted
from shared.topics import Topics

WINDOW = 16
MAX_REQUEST_BYTES = 1024

log = logging.getLogger(__name__)


class BlobServer:
    """Answers the requests of one site's nodes, or of the gateways, from its store.

    No more than a window of answers waits for the broker's acknowledgement; so the broker sets the
    pace, and what else the node has to say is not kept waiting.

    Args:
        link: the broker where the nodes ask.
        topics: of their site.
        drops: counts what was not answered, by reason.
    """

    def __init__(self, link: Link, topics: Topics, drops: Counter) -> None:
        self._link = link
        self._topics = topics
        self._drops = drops
        self._offers: dict[str, tuple[Artefact, BlobStore]] = {}
        self._queue = RequestQueue()
        self._next: Wanted | None = None
        self._unacknowledged = 0

    def start(self) -> None:
        """Subscribes to the requests."""
        self._link.subscribe(self._topics.blob_requests(), 1)

    def offer(self, artefact: Artefact, blobs: BlobStore) -> None:
        """Answers for an artefact from now on.

        Args:
            artefact: the artefact.
            blobs: has it whole.
        """
        self._offers[artefact.sha256] = (artefact, blobs)

    def withdraw(self, sha256: str) -> None:
        """Answers for an artefact no longer."""
        self._offers.pop(sha256, None)

    def on_request(self, topic: str, payload: bytes) -> bool:
        """Takes a request; returns False if the message is none, by its topic."""
        node = self._topics.blob_asker(topic)
        if node is None:
            return False
        try:
            if len(payload) > MAX_REQUEST_BYTES:
                raise PayloadError("too_large", f"{len(payload)} bytes are no request for chunks")
            self._take(node, unpack(payload, BlobRequest))
        except PayloadError as error:
            log.warning("%s: %s", topic, error)
            self._drop("bad_request")
        return True

    def poll(self) -> None:
        """Sends as much as the window lets."""
        while self._link.connected and self._unacknowledged < WINDOW:
            self._next = self._next or self._queue.take()
            if self._next is None or not self._answer(self._next):
                return
            self._next = None

    def _take(self, node: str, request: BlobRequest) -> None:
        offer = self._offers.get(request.sha256)
        if offer is None:
            self._drop("unknown_blob")  # it asks again, and may be here by then
            return
        number = len(offer[0].chunks)
        wanted = [Wanted(request.sha256, each) for each in request.indices if each < number]
        dropped = self._queue.add(node, wanted)
        dropped["foreign_chunk"] += len(request.indices) - len(wanted)
        for reason, times in dropped.items():
            self._drop(reason, times)
        self.poll()

    def _answer(self, wanted: Wanted) -> bool:
        """Sends a chunk; returns False if the link does not take it yet."""
        offer = self._offers.get(wanted.sha256)
        if offer is None:
            self._drop("unknown_blob")
            return True
        artefact, blobs = offer
        topic = self._topics.blob(wanted.sha256, wanted.chunk)
        try:
            data = blobs.chunk(artefact, wanted.chunk)
            taken = self._link.publish(topic, data, on_ack=self._on_ack)
        except (StorageError, PayloadError) as error:
            log.error("%s", error)
            self._drop("storage" if isinstance(error, StorageError) else error.reason)
            return True
        self._unacknowledged += taken
        return taken

    def _on_ack(self) -> None:
        self._unacknowledged -= 1
        self.poll()

    def _drop(self, reason: str, times: int = 1) -> None:
        self._drops.labels(reason=reason).inc(times)
