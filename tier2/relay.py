"""The gateway's other half: hands releases from the cloud down to the site."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from shared.errors import ArtefactError, StorageError
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.releases.artefact import Artefact
from shared.releases.blobs import BlobStore
from shared.releases.fetch import Fetch
from shared.releases.machine import State
from shared.releases.manifest import Manifest, open_manifest, read_manifest
from shared.releases.publication import Publication
from shared.releases.record import Accepted, ChannelFile, ChannelRecord
from shared.releases.ruling import check_order
from shared.releases.updater import RECONCILE_S, Trusts
from shared.topics import Topics
from tier2.shelf import Shelf

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Coming:
    """A release on its way to this gateway.

    Attributes:
        envelope: the signed manifest.
        manifest: the same, read.
        fetches: bring its files.
    """

    envelope: bytes
    manifest: Manifest
    fetches: Sequence[Fetch]

    @property
    def complete(self) -> bool:
        """Whether every chunk of every file is here."""
        return all(fetch.complete for fetch in self.fetches)


class ChannelRelay:
    """Hands the releases of one channel down.

    A file crosses the link to the cloud once, whatever the number of nodes on the site. The signed
    manifest is handed on as it came: every node verifies it for itself.

    Args:
        channel: the channel.
        folder: for the record and the files.
        trusts: whose signatures count.
        up: the cloud's broker and its topics.
        down: the site's broker and its topics.
        metrics: what is counted.
        shelf: has the files for the site.
    """

    def __init__(
        self,
        *,
        channel: str,
        folder: Path,
        trusts: Trusts,
        up: tuple[Link, Topics],
        down: tuple[Link, Topics],
        metrics: NodeMetrics,
        shelf: Shelf,
    ) -> None:
        self.channel = channel
        self._trusts = trusts
        self._up, self._up_topics = up
        self._down, self._down_topics = down
        self._metrics = metrics
        self._shelf = shelf
        self._file = ChannelFile(folder / f"{channel}.record")
        self._blobs = BlobStore(folder / channel, keeps_packed=True)
        self._record = ChannelRecord()
        self._coming: Coming | None = None
        self._publication: Publication | None = None
        self._reconcile_due_s = 0.0
        self._said = ""

    @property
    def _handed_down(self) -> Sequence[Artefact]:
        """The files of what was handed down last: what comes may have chunks in common."""
        active = self._record.active
        if active is None:
            return ()
        try:
            return read_manifest(active.envelope).release.artefacts
        except ArtefactError:
            return ()

    @property
    def manifest_topic(self) -> str:
        """Where the cloud publishes the channel's manifest."""
        return self._up_topics.releases(self.channel)

    def start(self) -> None:
        """Reads what was handed down last, and subscribes.

        Raises:
            StorageError: the disk does not give the record.
        """
        self._record = self._file.read()
        if self._record.active is not None:
            envelope = self._record.active.envelope
            try:
                self._stage(envelope, read_manifest(envelope))
            except ArtefactError as error:
                log.error("%s: what was handed down last cannot be again: %s", self.channel, error)
        self._up.subscribe(self.manifest_topic, 0)

    def on_site_connected(self, now_s: float) -> None:
        """Publishes again: a broker may have forgotten what it acknowledged."""
        publication, active = self._publication, self._record.active
        if publication is None or active is None:
            return
        try:
            publication.begin(now_s)
        except StorageError as error:
            log.error("%s: fetched again to be handed down: %s", self.channel, error)
            self._publication = None
            self._await(active.envelope, read_manifest(active.envelope), now_s)

    def on_manifest(self, envelope: bytes, now_s: float) -> None:
        """Takes a manifest from the cloud; one that is not newer or not trusted goes no further."""
        if not envelope:
            return
        trust = self._trusts.current
        try:
            manifest = open_manifest(envelope, trust.releases)
            check_order(manifest, trust, self._record, self.channel)
        except ArtefactError as error:
            self._say_once(f"{self.channel}: release not handed down: {error}")
            self._metrics.drops.labels(reason="release_refused").inc()
            return
        if manifest.order > self._newest:
            self._await(envelope, manifest, now_s)

    def on_chunk(self, sha256: str, index: int, data: bytes, now_s: float) -> None:
        """Takes a chunk, if it belongs to the release that is coming."""
        coming = self._coming
        if coming is None:
            return
        for fetch, artefact in zip(coming.fetches, coming.manifest.release.artefacts, strict=True):
            if artefact.sha256 == sha256:
                try:
                    fetch.on_chunk(index, data, now_s)
                except StorageError as error:
                    self._say_once(f"{self.channel}: {error}")

    def on_read_back(self, sha256: str, index: int, data: bytes, now_s: float) -> None:
        """Takes what the site's broker has retained of a chunk that was published."""
        if self._publication is not None:
            self._publication.on_chunk(sha256, index, data, now_s)

    def poll(self, now_s: float) -> None:
        """Goes as far as it can; now and then looks whether it has missed a manifest."""
        if self._up.connected and now_s >= self._reconcile_due_s:
            self.reconcile(now_s)
        if self._coming is not None:
            if self._coming.complete:
                self._arrived(self._coming, now_s)
            else:
                for fetch in self._coming.fetches:
                    fetch.poll(now_s)
        if self._publication is not None:
            self._publication.poll(now_s)

    def reconcile(self, now_s: float) -> None:
        """Has the cloud's broker deliver the retained manifest once more."""
        self._reconcile_due_s = now_s + RECONCILE_S
        self._up.subscribe(self.manifest_topic, 0)

    @property
    def _newest(self) -> tuple[int, int]:
        return self._record.order if self._coming is None else self._coming.manifest.order

    def _await(self, envelope: bytes, manifest: Manifest, now_s: float) -> None:
        if self._coming is not None:
            for fetch in self._coming.fetches:
                fetch.end()
        fetches = [
            Fetch(
                artefact,
                self._blobs,
                self._up,
                self._up_topics,
                self._metrics,
                known=self._handed_down,
            )
            for artefact in manifest.release.artefacts
        ]
        self._coming = Coming(envelope, manifest, fetches)
        for fetch in fetches:
            fetch.begin(now_s)

    def _arrived(self, coming: Coming, now_s: float) -> None:
        self._coming = None
        manifest = coming.manifest
        try:
            for artefact in manifest.release.artefacts:
                self._blobs.assemble(artefact)
            record = msgspec.structs.replace(
                self._record,
                key_epoch=manifest.key_epoch,
                seq=manifest.seq,
                active=Accepted(coming.envelope),
                state=State.COMMITTED,
            )
            self._file.write(record)
        except (ArtefactError, StorageError) as error:
            log.error("%s seq %d not handed down: %s", self.channel, manifest.seq, error)
            return
        before, self._record = self._handed_down, record
        if self._publication is not None:
            self._publication.end()
        self._stage(coming.envelope, manifest, before)
        self._blobs.prune({each.sha256 for each in (*before, *manifest.release.artefacts)})
        self.on_site_connected(now_s)

    def _stage(self, envelope: bytes, manifest: Manifest, before: Sequence[Artefact] = ()) -> None:
        """Makes a release the one that is handed down; the one before may still be fetched."""
        self._shelf.hold(self.channel, (*before, *manifest.release.artefacts), self._blobs)
        self._publication = Publication(
            channel=manifest.channel,
            name=f"seq {manifest.seq} (version {manifest.release.version})",
            envelope=envelope,
            artefacts=manifest.release.artefacts,
            blobs=self._blobs,
            link=self._down,
            topics=self._down_topics,
        )

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.error("%s", text)
