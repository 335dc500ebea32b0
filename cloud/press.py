"""Publishes the newest manifest of every channel on the cloud's broker, and what it names."""

from __future__ import annotations

import logging

from prometheus_client import Counter

from cloud.registry import Entry
from shared.errors import StorageError
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.releases.blob_server import BlobServer
from shared.releases.blobs import BlobStore
from shared.releases.clearance import Clearance
from shared.releases.publication import Publication
from shared.releases.release import Release
from shared.topics import Topics

RETRY_S = 60.0
KEPT_RELEASES = 2

log = logging.getLogger(__name__)


class Press:
    """Keeps at the broker what the channels have to say.

    A later manifest of files that this connection has brought to the broker goes out alone, and so
    does one that halts: a halt must not wait behind a large model. The files of the release before
    stay beside the newest's, for nodes that have to fetch it anew; older ones are taken off.

    Args:
        blobs: of the registry.
        link: the cloud's broker.
        topics: of the cloud's site.
        drops: counts requests that were not answered.
    """

    def __init__(self, blobs: BlobStore, link: Link, topics: Topics, drops: Counter) -> None:
        self._blobs = blobs
        self._link = link
        self._topics = topics
        self._server = BlobServer(link, topics, drops)
        self._clearance = Clearance(link, topics)
        self._kept: dict[str, list[Release]] = {}
        self._entries: dict[str, Entry] = {}
        self._publications: dict[str, Publication] = {}
        self._at_broker: set[str] = set()
        self._retry_s: dict[str, float] = {}

    def start(self) -> None:
        """Subscribes to requests for chunks."""
        self._server.start()

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
        self._keep(channel, entry.manifest.release)
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
        self._server.poll()
        self._clearance.poll()

    def out(self, channel: str) -> int:
        """Returns the seq of the channel's newest manifest if the broker has it all, else 0."""
        publication = self._publications.get(channel)
        is_out = publication is not None and publication.published
        return self._entries[channel].manifest.seq if is_out else 0

    def _keep(self, channel: str, release: Release) -> None:
        """Answers for a release's files, and no longer for those of the one before the last."""
        kept = [each for each in self._kept.get(channel, []) if each.digests != release.digests]
        self._kept[channel] = [*kept, release][-KEPT_RELEASES:]
        for artefact in release.artefacts:
            self._server.offer(artefact, self._blobs)
        standing = {
            digest for several in self._kept.values() for each in several for digest in each.digests
        }
        self._clearance.spare(standing)
        for artefact in (each for old in kept[:-1] for each in old.artefacts):
            if artefact.sha256 not in standing:
                self._server.withdraw(artefact.sha256)
                self._at_broker.discard(artefact.sha256)
                self._clearance.add(artefact)

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
        try:
            publication.begin(now_s)
        except StorageError as error:
            publication.trouble = str(error)
            log.error("%s cannot be published: %s", channel, error)

    def _note_arrival(self, channel: str) -> None:
        """Remembers that this connection has brought a manifest's files to the broker."""
        if self.out(channel) and self._entries[channel].manifest.state == "active":
            self._at_broker |= self._entries[channel].manifest.release.digests
