"""Publishes releases: all chunks first, acknowledged and read back, the manifest last."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from shared.errors import EscalonError, PayloadError, StorageError
from shared.mqtt.link import Link
from shared.releases.artefact import Artefact
from shared.releases.blobs import BlobStore
from shared.releases.read_back import Expected, ReadBack
from shared.topics import Topics

WINDOW = 16
MAX_ROUNDS = 3

log = logging.getLogger(__name__)


class Parcel(NamedTuple):
    """One chunk to be retained."""

    artefact: Artefact
    chunk: int


class Publication:
    """One release on its way to a broker.

    A broker may forget what it acknowledged, so the owner begins anew at every connect. Chunks that
    were published before are then read back first, up to the first one that is not there, and what
    was not found is sent. An artefact that is pulled has no chunks to publish: a ``BlobServer``
    answers for it.

    Args:
        channel: the channel.
        name: of the release, for people, such as ``seq 3 (version 3)``.
        envelope: the signed manifest.
        artefacts: that the manifest names.
        blobs: holds them.
        link: the broker.
        topics: of the site that it is published for.
        reads_back: whether every chunk is read back before the manifest goes out; the owner then
            hands on what comes on the topics of blobs.
        looks_first: whether its chunks may be there from before, and are read back first.

    Attributes:
        published: whether the broker has acknowledged the manifest.
        trouble: why this attempt was given up, in words; empty while it was not.
        lacks_file: whether that is a file which is damaged or gone here.
    """

    def __init__(
        self,
        *,
        channel: str,
        name: str,
        envelope: bytes,
        artefacts: Sequence[Artefact],
        blobs: BlobStore,
        link: Link,
        topics: Topics,
        reads_back: bool = True,
        looks_first: bool = False,
    ) -> None:
        self.channel = channel
        self.published = False
        self.trouble = ""
        self.lacks_file = False
        self._name = name
        self._envelope = envelope
        self._artefacts = tuple(artefacts)
        self._blobs = blobs
        self._link = link
        self._topics = topics
        self._reads_back = reads_back
        self._looks_first = looks_first
        self._waiting: deque[Parcel] = deque()
        self._unread: list[Parcel] = []
        self._read_back: ReadBack | None = None
        self._unacknowledged = 0
        self._manifest_sent = False
        self._attempt = 0
        self._rounds = 0

    def begin(self, now_s: float) -> None:
        """Starts, or starts anew on a new connection. Without all its files it gives up at once.

        Args:
            now_s: monotonic.
        """
        self.end()
        self._attempt += 1
        lost = [each.sha256 for each in self._artefacts if not self._blobs.has(each)]
        self.lacks_file = bool(lost)
        if lost:
            text = f"{lost[0]} is damaged or gone. Fix: publish it anew from its file"
            self._give_up(StorageError(text))
            return
        parcels = [
            Parcel(artefact, index)
            for artefact in self._artefacts
            if artefact.delivery == "retained"
            for index in range(len(artefact.chunks))
        ]
        looks = self._reads_back and (self._looks_first or self.published)
        self._waiting = deque(() if looks else parcels)
        self._unread = parcels if self._reads_back else []
        self._unacknowledged, self._rounds = 0, 0 if looks else 1
        self._manifest_sent = False
        self.trouble = ""
        self.poll(now_s)

    def poll(self, now_s: float) -> None:
        """Goes as far as it can: sends what the window lets, reads back, sends the manifest."""
        self._send_chunks()
        if self._waiting or self._unacknowledged or self._manifest_sent:
            return
        if self._unread and self._read_back is None:
            expected = [
                Expected(self._topic(each), each.artefact.chunks[each.chunk])
                for each in self._unread
            ]
            sent = self._rounds > 0
            self._read_back = ReadBack(expected, self._link, stops_at_loss=not sent)
        if self._read_back is not None:
            self._read_back.poll(now_s)
            if not self._read_back.complete:
                return
            self._judge(self._read_back)
        if not self._unread and not self._manifest_sent:
            topic = self._topics.releases(self.channel)
            self._manifest_sent = self._send(topic, self._envelope, self._on_manifest_ack)

    def on_chunk(self, sha256: str, index: int, data: bytes, now_s: float) -> None:
        """Takes a chunk that came back from the broker; any other is of no interest.

        Args:
            sha256: of the artefact, by the topic.
            index: of the chunk, by the topic.
            data: the payload.
            now_s: monotonic.
        """
        if self._read_back is not None:
            self._read_back.on_message(self._topics.blob(sha256, index), data, now_s)

    def end(self) -> None:
        """Ends what is subscribed."""
        if self._read_back is not None:
            self._read_back.end()
            self._read_back = None

    def _send_chunks(self) -> None:
        while self._waiting and self._unacknowledged < WINDOW:
            parcel = self._waiting[0]
            try:
                data = self._blobs.chunk(parcel.artefact, parcel.chunk)
            except StorageError as error:
                self._give_up(error)
                return
            if not self._send(self._topic(parcel), data, self._send_chunks):
                return
            self._waiting.popleft()

    def _judge(self, read_back: ReadBack) -> None:
        """Has what the broker did not keep sent again; not for ever."""
        found = read_back.found
        lost = [each for number, each in enumerate(self._unread) if number not in found]
        self.end()
        self._unread = lost
        if not lost:
            return
        text = f"the broker acknowledged {len(lost)} chunks of {self.channel} and has not kept them"
        if self._rounds >= MAX_ROUNDS:
            self._give_up(
                StorageError(
                    f"{text}, {self._rounds} times. Fix: let it keep retained messages of 64 KiB, "
                    "as many as the model has chunks, and let this node read and write its blobs; "
                    "or publish the artefact to be pulled"
                )
            )
            return
        self._rounds += 1
        log.warning("%s; sending them again", text)
        self._waiting = deque(lost)
        self._send_chunks()

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

    def _give_up(self, error: EscalonError) -> None:
        """Ends the attempt: it cannot succeed now, the next connection's may."""
        self.trouble = str(error)
        log.error("%s cannot be published: %s", self.channel, error)
        self._waiting.clear()
        self._unread.clear()
        self._manifest_sent = True

    def _on_manifest_ack(self) -> None:
        if not self.published:
            log.info("published %s %s for %s", self.channel, self._name, self._topics.site)
        self.published = True

    def _topic(self, parcel: Parcel) -> str:
        return self._topics.blob(parcel.artefact.sha256, parcel.chunk)
