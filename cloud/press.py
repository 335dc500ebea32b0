"""Publishes the newest manifest of every channel on the cloud's broker, and what it names."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping

from prometheus_client import Counter

from cloud.registry import Entry
from cloud.retained_file import RetainedFile
from shared.errors import StorageError
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.releases.artefact import Artefact
from shared.releases.blob_server import BlobServer
from shared.releases.blobs import BlobStore
from shared.releases.clearance import Clearance
from shared.releases.publication import Publication
from shared.releases.release import Release
from shared.releases.shelf import Shelf
from shared.topics import Topics

RETRY_S = 60.0

log = logging.getLogger(__name__)


class Press:
    """Keeps at the broker what the channels have to say.

    A later manifest of files that this connection has brought to the broker goes out alone, and so
    does one that halts: a halt must not wait behind a large model. The files of other releases that
    nodes may still fetch stay beside the newest's; all others are taken off, also those that an
    earlier process has left.

    Args:
        blobs: of the registry.
        link: the cloud's broker.
        topics: of the cloud's site.
        drops: counts requests that were not answered.
        file: what may be at the broker, on the disk.
    """

    def __init__(
        self, blobs: BlobStore, link: Link, topics: Topics, drops: Counter, file: RetainedFile
    ) -> None:
        self._blobs = blobs
        self._link = link
        self._topics = topics
        self._server = BlobServer(link, topics, drops)
        self._shelf = Shelf(self._server, Clearance(link, topics))
        self._file = file
        self._listed: dict[str, Mapping[str, Artefact]] = {}
        self._list_due_s = math.inf
        self._clears = False
        self._entries: dict[str, Entry] = {}
        self._publications: dict[str, Publication] = {}
        self._at_broker: set[str] = set()
        self._retry_s: dict[str, float] = {}

    def start(self) -> None:
        """Subscribes to requests for chunks, and takes up what is at the broker.

        Raises:
            StorageError: the disk does not give the list of that.
        """
        for channel, artefacts in self._file.read().items():
            self._listed[channel] = {each.sha256: each for each in artefacts}
            self._shelf.hold(channel, artefacts, self._blobs)
        self._server.start()

    def keep(self, channel: str, releases: Iterable[Release], now_s: float) -> None:
        """Answers for the files of these releases, and takes all others of the channel off.

        Args:
            channel: the channel.
            releases: what its nodes may still fetch, the newest last.
            now_s: monotonic.
        """
        self._hold(channel, [each for release in releases for each in release.artefacts], now_s)

    def put(self, channel: str, entry: Entry | None, now_s: float) -> None:
        """Takes a channel's newest manifest; the same once more changes nothing.

        Args:
            channel: the channel.
            entry: its newest manifest; None for none yet.
            now_s: monotonic.
        """
        if entry is None or self._entries.get(channel) is entry:
            return
        self._note_arrival(channel)
        self._entries[channel] = entry
        named = entry.manifest.release.artefacts
        self._hold(channel, [*self._shelf.held(channel).values(), *named], now_s)
        if self._link.connected:
            self._publish(channel, now_s)

    def on_connected(self, now_s: float) -> None:
        """Publishes everything anew: the broker may have forgotten it."""
        self._at_broker.clear()
        for channel in self._entries:
            self._publish(channel, now_s)

    def take(self, message: Message, now_s: float) -> bool:
        """Takes what belongs to files; returns False if the message does not."""
        chunk = self._topics.blob_chunk(message.topic)
        if chunk is None:
            return self._server.on_request(message.topic, message.payload)
        for publication in self._publications.values():
            publication.on_chunk(*chunk, message.payload, now_s)
        return True

    def poll(self, now_s: float) -> None:
        """Goes as far as it can; what was given up is tried again now and then."""
        for channel, publication in list(self._publications.items()):
            if not publication.trouble:
                publication.poll(now_s)
            elif now_s >= self._retry_s[channel] and self._link.connected:
                self._publish(channel, now_s)
        self._shelf.poll()
        if self._clears and self._shelf.cleared:
            self._clears = False
            self._listed = {channel: self._shelf.held(channel) for channel in self._listed}
            self._list(now_s)
        elif now_s >= self._list_due_s:
            self._list(now_s)

    def out(self, channel: str) -> int:
        """Returns the seq of the channel's newest manifest if the broker has it all, else 0."""
        publication = self._publications.get(channel)
        is_out = publication is not None and publication.published
        return self._entries[channel].manifest.seq if is_out else 0

    def trouble(self, channel: str) -> str:
        """Returns why the channel's newest manifest cannot be published now; empty for nothing."""
        publication = self._publications.get(channel)
        return publication.trouble if publication is not None else ""

    def _hold(self, channel: str, artefacts: Iterable[Artefact], now_s: float) -> None:
        self._shelf.hold(channel, artefacts, self._blobs)
        self._at_broker = set(filter(self._shelf.holds, self._at_broker))
        # What has to go stays on the list until it is gone.
        held = self._shelf.held(channel)
        listed = self._listed[channel] = {**self._listed.get(channel, {}), **held}
        self._clears = self._clears or len(listed) > len(held)
        self._list(now_s)

    def _list(self, now_s: float) -> None:
        """Keeps on the disk what may be at the broker. Without it a restart leaves some there."""
        self._list_due_s = math.inf
        try:
            self._file.write(self._listed)
        except StorageError as error:
            log.error("what is retained at the broker is not noted: %s", error)
            self._list_due_s = now_s + RETRY_S

    def _publish(self, channel: str, now_s: float) -> None:
        manifest, envelope = self._entries[channel].manifest, self._entries[channel].envelope
        is_halt = manifest.state == "halted"  # it waits for no file, and for none that is lost
        artefacts = [
            artefact
            for artefact in manifest.release.artefacts
            if not is_halt and artefact.sha256 not in self._at_broker
        ]
        if channel in self._publications:
            self._publications[channel].end()
        publication = self._publications[channel] = Publication(
            channel=channel,
            name=f"seq {manifest.seq} (version {manifest.release.version})",
            envelope=envelope,
            artefacts=artefacts,
            blobs=self._blobs,
            link=self._link,
            topics=self._topics,
        )
        self._retry_s[channel] = now_s + RETRY_S
        publication.begin(now_s)

    def _note_arrival(self, channel: str) -> None:
        """Remembers that this connection has brought a manifest's files to the broker."""
        if self.out(channel) and self._entries[channel].manifest.state == "active":
            self._at_broker |= self._entries[channel].manifest.release.digests
