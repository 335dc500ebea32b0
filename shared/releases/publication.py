"""Publishes releases, retained: all chunks first and acknowledged, the manifest last."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from shared.errors import PayloadError, StorageError
from shared.mqtt.link import Link
from shared.releases.blobs import BlobStore, chunked
from shared.releases.manifest import Manifest
from shared.topics import Topics

WINDOW = 16

log = logging.getLogger(__name__)


class Publication:
    """One release on its way to a broker.

    A broker may forget what it acknowledged, so the owner begins anew at every connect.

    Args:
        envelope: the signed manifest.
        manifest: the same, read.
        blobs: holds the artefact.
        link: the broker.
        topics: of the site that it is published for.
    """

    def __init__(
        self, envelope: bytes, manifest: Manifest, blobs: BlobStore, link: Link, topics: Topics
    ) -> None:
        self.manifest = manifest
        self.published = False
        self._envelope = envelope
        self._blobs = blobs
        self._link = link
        self._topics = topics
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._unacknowledged = 0
        self._manifest_sent = False
        self._attempt = 0

    def begin(self) -> None:
        """Starts, or starts anew on a new connection.

        Raises:
            StorageError: the artefact is damaged or gone.
        """
        self._waiting = deque()
        for artefact in self.manifest.release.artefacts:
            if not self._blobs.has(artefact):
                raise StorageError(f"{artefact.sha256} is damaged or gone")
            parts = chunked(self._blobs.path(artefact.sha256).read_bytes(), artefact.chunk_bytes)
            self._waiting += [
                (self._topics.blob(artefact.sha256, index), part)
                for index, part in enumerate(parts)
            ]
        self._unacknowledged = 0
        self._manifest_sent = False
        self._attempt += 1
        self.poll()

    def poll(self) -> None:
        """Sends as much as the window lets."""
        while self._waiting and self._unacknowledged < WINDOW:
            topic, payload = self._waiting[0]
            if not self._send(topic, payload, self._on_chunk_ack):
                return
            self._waiting.popleft()
        if not self._waiting and self._unacknowledged == 0 and not self._manifest_sent:
            topic = self._topics.releases(self.manifest.channel)
            self._manifest_sent = self._send(topic, self._envelope, self._on_manifest_ack)

    def _send(self, topic: str, payload: bytes, on_ack: Callable[[], None]) -> bool:
        attempt = self._attempt

        def note_ack() -> None:
            if attempt == self._attempt:
                self._unacknowledged -= 1
                on_ack()

        try:
            taken = self._link.publish(topic, payload, retain=True, on_ack=note_ack)
        except PayloadError as error:
            self._give_up(error)
            return False
        self._unacknowledged += taken
        return taken

    def _give_up(self, error: PayloadError) -> None:
        """Ends the attempt: this broker takes it never, the next connection's may."""
        log.error("%s cannot be published: %s", self.manifest.channel, error)
        self._waiting.clear()
        self._manifest_sent = True

    def _on_chunk_ack(self) -> None:
        self.poll()

    def _on_manifest_ack(self) -> None:
        if not self.published:
            manifest = self.manifest
            log.info(
                "published %s seq %d (version %s) for %s",
                manifest.channel, manifest.seq, manifest.release.version, self._topics.site,
            )  # fmt: skip
        self.published = True
