"""The gateway's other half: hands releases from the cloud down to the site."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from shared.errors import ArtefactError, StorageError
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.releases.blobs import BlobStore
from shared.releases.fetch import Fetch
from shared.releases.machine import State
from shared.releases.manifest import Manifest
from shared.releases.publication import Publication
from shared.releases.record import ChannelFile, ChannelRecord
from shared.releases.signing import Trust, open_envelope
from shared.releases.updater import RECONCILE_S
from shared.topics import Topics

log = logging.getLogger(__name__)


class ChannelRelay:
    """Hands the releases of one channel down.

    An artefact crosses the link to the cloud once, whatever the number of nodes on the site. The
    signed manifest is handed on as it came: every node verifies it for itself.

    Args:
        channel: the channel.
        folder: for the record and the artefacts.
        trust: keys that may sign.
        up: the cloud's broker and its topics.
        down: the site's broker and its topics.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        channel: str,
        folder: Path,
        trust: Trust,
        up: tuple[Link, Topics],
        down: tuple[Link, Topics],
        metrics: NodeMetrics,
    ) -> None:
        self.channel = channel
        self._trust = trust
        self._up, self._up_topics = up
        self._down, self._down_topics = down
        self._metrics = metrics
        self._file = ChannelFile(folder / f"{channel}.json")
        self._blobs = BlobStore(folder / channel, keeps_packed=True)
        self._record = ChannelRecord()
        self._fetch: Fetch | None = None
        self._coming: tuple[bytes, Manifest] | None = None
        self._publication: Publication | None = None
        self._staged: Manifest | None = None
        self._reconcile_due_s = 0.0

    @property
    def manifest_topic(self) -> str:
        """Where the cloud publishes the channel's manifest."""
        return self._up_topics.releases(self.channel)

    def start(self) -> None:
        """Reads what was handed down last, and subscribes."""
        self._record = self._file.read()
        if self._record.active is not None:
            try:
                self._stage(self._record.active, open_envelope(self._record.active, self._trust))
            except ArtefactError as error:
                log.error("%s: what was handed down last cannot be again: %s", self.channel, error)
        self._up.subscribe(self.manifest_topic, 0)

    def on_site_connected(self, now_s: float) -> None:
        """Publishes again: a broker may have forgotten what it acknowledged."""
        publication, envelope = self._publication, self._record.active
        if publication is None or envelope is None or self._staged is None:
            return
        try:
            publication.begin(now_s)
        except StorageError as error:
            log.error("%s: fetched again to be handed down: %s", self.channel, error)
            self._publication = None
            self._await(envelope, self._staged, now_s)

    def on_manifest(self, envelope: bytes, now_s: float) -> None:
        """Takes a manifest from the cloud; one that is not newer or not trusted goes no further."""
        if not envelope:
            return
        try:
            manifest = open_envelope(envelope, self._trust)
        except ArtefactError as error:
            log.error("%s: release not handed down: %s", self.channel, error)
            self._metrics.drops.labels(reason="release_refused").inc()
            return
        if manifest.channel != self.channel or manifest.seq <= self._newest_seq:
            return
        self._await(envelope, manifest, now_s)

    def on_chunk(self, sha256: str, index: int, data: bytes, now_s: float) -> None:
        """Takes a chunk, if it belongs to the release that is coming."""
        if self._coming is None or self._fetch is None:
            return
        if self._coming[1].artefact.sha256 == sha256:
            try:
                self._fetch.on_chunk(index, data, now_s)
            except StorageError as error:
                log.error("%s: %s", self.channel, error)

    def poll(self, now_s: float) -> None:
        """Goes as far as it can; now and then looks whether it has missed a manifest."""
        if self._up.connected and now_s >= self._reconcile_due_s:
            self._reconcile_due_s = now_s + RECONCILE_S
            self._up.subscribe(self.manifest_topic, 0)
        if self._coming is not None and self._fetch is not None:
            if self._fetch.complete:
                self._arrived(*self._coming, now_s)
            else:
                self._fetch.poll(now_s)
        if self._publication is not None:
            self._publication.poll(now_s)

    @property
    def _newest_seq(self) -> int:
        return self._coming[1].seq if self._coming is not None else self._record.seq

    def _await(self, envelope: bytes, manifest: Manifest, now_s: float) -> None:
        if self._fetch is not None:
            self._fetch.end()
        self._coming = (envelope, manifest)
        self._fetch = Fetch(
            manifest.artefact, self._blobs, self._up, self._up_topics, self._metrics
        )
        self._fetch.begin(now_s)

    def _arrived(self, envelope: bytes, manifest: Manifest, now_s: float) -> None:
        self._coming = self._fetch = None
        try:
            self._blobs.assemble(manifest.artefact)
            record = msgspec.structs.replace(
                self._record, seq=manifest.seq, active=envelope, state=State.COMMITTED
            )
            self._file.write(record)
        except (ArtefactError, StorageError) as error:
            log.error("%s seq %d not handed down: %s", self.channel, manifest.seq, error)
            return
        self._record = record
        self._stage(envelope, manifest)
        self.on_site_connected(now_s)

    def _stage(self, envelope: bytes, manifest: Manifest) -> None:
        self._staged = manifest
        self._publication = Publication(
            channel=manifest.channel,
            name=f"seq {manifest.seq} (version {manifest.version})",
            envelope=envelope,
            artefacts=(manifest.artefact,),
            blobs=self._blobs,
            link=self._down,
            topics=self._down_topics,
            reads_back=False,
        )
