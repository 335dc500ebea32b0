"""The gateway's other half: hands releases from the cloud down to the site."""

from __future__ import annotations

import logging
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from shared.errors import ArtefactError, DigestError, StorageError
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.releases.artefact import Artefact
from shared.releases.blobs import BlobStore
from shared.releases.complaints import Complaints
from shared.releases.fetch import Fetch
from shared.releases.machine import State
from shared.releases.manifest import Manifest, open_manifest, read_manifest
from shared.releases.publication import Publication
from shared.releases.reconciliation import RECONCILE_S
from shared.releases.record import Accepted, ChannelFile, ChannelRecord
from shared.releases.release import Release
from shared.releases.ruling import check_order
from shared.releases.shelf import Shelf
from shared.releases.trust import Trusts
from shared.topics import Topics
from tier2.coming import Coming

PAUSE_S = 60.0
MAX_PAUSE_S = 1800.0
"""Between two attempts to publish what the site's broker does not keep or take."""

log = logging.getLogger(__name__)


class ChannelRelay:
    """Hands the releases of one channel down.

    A file crosses the link to the cloud once, whatever the number of nodes on the site. The signed
    manifest is handed on as it came: every node verifies it for itself. What fails for the disk's
    sake is given up, and begins anew when the manifest comes again.

    Args:
        channel: the channel.
        node: under which name chunks are asked for; no other gateway has it.
        folder: for the record and the files.
        trusts: whose signatures count.
        up: the cloud's broker and its topics.
        down: the site's broker and its topics.
        metrics: what is counted.
        shelf: has the files for the site.
        rng: jitter.
    """

    def __init__(
        self,
        *,
        channel: str,
        node: str,
        folder: Path,
        trusts: Trusts,
        up: tuple[Link, Topics],
        down: tuple[Link, Topics],
        metrics: NodeMetrics,
        shelf: Shelf,
        rng: random.Random,
    ) -> None:
        self.channel = channel
        self._node = node
        self._trusts = trusts
        self._up, self._up_topics = up
        self._down, self._down_topics = down
        self._metrics = metrics
        self._shelf = shelf
        self._rng = rng
        self._file = ChannelFile(folder / f"{channel}.record")
        self._blobs = BlobStore(folder / channel, keeps_packed=True)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"relay-{channel}")
        self._record = ChannelRecord()
        self._coming: Coming | None = None
        self._broken = (0, 0)
        self._publication: Publication | None = None
        self._pause_s = PAUSE_S
        self._again_s = 0.0
        self._reconcile_due_s = 0.0
        self._complaints = Complaints(channel)

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
        self._clear_up()
        if self._record.active is not None:
            envelope = self._record.active.envelope
            try:
                self._stage(envelope, read_manifest(envelope), looks_first=True)
            except ArtefactError as error:
                log.error("%s: what was handed down last cannot be again: %s", self.channel, error)
        self._up.subscribe(self.manifest_topic, 0)

    def on_site_connected(self, now_s: float) -> None:
        """Publishes again: a broker may have forgotten what it acknowledged."""
        self._pause_s = PAUSE_S
        if self._publication is not None:
            self._hand_down(self._publication, now_s)

    def on_manifest(self, envelope: bytes, now_s: float) -> None:
        """Takes a manifest from the cloud; one that is not newer or not trusted goes no further."""
        if not envelope:
            return
        trust = self._trusts.current
        try:
            manifest = open_manifest(envelope, trust.releases)
            check_order(manifest, trust, self._record, self.channel)
        except ArtefactError as error:
            # After a change of the keys the cloud's broker has it until it is signed anew.
            active = self._record.active
            is_known = active is not None and active.envelope == envelope
            level = logging.WARNING if is_known else logging.ERROR
            self._complaints.say(f"release not handed down: {error}", level)
            self._metrics.drops.labels(reason="release_refused").inc()
            return
        if not self._wants(manifest.order):
            return
        if self._coming is not None and self._coming.assembling:
            self._reconcile_due_s = now_s  # it comes again, once the one before is whole
        else:
            self._await(envelope, manifest, now_s)

    def on_chunk(self, sha256: str, index: int, data: bytes, now_s: float) -> None:
        """Takes a chunk, if it belongs to the release that is coming."""
        if self._coming is not None:
            try:
                self._coming.on_chunk(sha256, index, data, now_s)
            except StorageError as error:
                self._give_up(self._coming, error)

    def on_read_back(self, sha256: str, index: int, data: bytes, now_s: float) -> None:
        """Takes what the site's broker has retained of a chunk that was published."""
        if self._publication is not None:
            self._publication.on_chunk(sha256, index, data, now_s)

    def poll(self, now_s: float) -> None:
        """Goes as far as it can; now and then looks whether it has missed a manifest."""
        is_assembling = self._coming is not None and self._coming.assembling
        if self._up.connected and now_s >= self._reconcile_due_s and not is_assembling:
            self.reconcile(now_s)
        if self._coming is not None:
            try:
                if self._coming.poll(now_s):
                    self._arrived(self._coming, now_s)
            except (ArtefactError, StorageError) as error:
                self._give_up(self._coming, error)
        if self._publication is not None:
            self._publish(self._publication, now_s)

    def reconcile(self, now_s: float) -> None:
        """Has the cloud's broker deliver the retained manifest once more."""
        self._reconcile_due_s = now_s + RECONCILE_S
        self._up.subscribe(self.manifest_topic, 0)

    @property
    def busy(self) -> bool:
        """Whether something goes on that wakes no socket."""
        return self._coming is not None and self._coming.busy

    def close(self) -> None:
        """Ends what is under way. It goes on in the next life."""
        if self._coming is not None:
            self._coming.end()
        self._thread.shutdown(wait=False, cancel_futures=True)

    # A release comes

    def _wants(self, order: tuple[int, int]) -> bool:
        """Whether a manifest is to be fetched: a newer one, or the newest, whose files are lost."""
        if self._coming is not None:
            return order > self._coming.manifest.order
        is_newer = order > self._record.order or self._publication is None
        return is_newer and order > self._broken

    def _await(self, envelope: bytes, manifest: Manifest, now_s: float) -> None:
        if self._coming is not None:
            self._coming.end()
        fetches = [
            Fetch(
                artefact,
                self._blobs,
                self._up,
                self._up_topics,
                self._metrics,
                node=self._node,
                known=self._standing,
                rng=self._rng,
            )
            for artefact in manifest.release.artefacts
        ]
        self._coming = Coming(envelope, manifest, fetches, self._blobs, self._thread)
        try:
            self._coming.begin(now_s)
        except StorageError as error:
            self._give_up(self._coming, error)

    def _give_up(self, coming: Coming, error: ArtefactError | StorageError) -> None:
        """Ends a fetch. When the manifest comes again the disk may do better."""
        self._coming = None
        coming.end()
        if isinstance(error, DigestError):
            self._broken = coming.manifest.order
        self._complaints.say(f"seq {coming.manifest.seq} not handed down: {error}")

    def _arrived(self, coming: Coming, now_s: float) -> None:
        """Makes a release that is whole the one that is handed down.

        Raises:
            StorageError: the disk does not take the record.
        """
        manifest, record = coming.manifest, self._record
        known = [_release_of(each) for each in record.standing]
        is_wave = known[:1] == [manifest.release]
        record = msgspec.structs.replace(
            record,
            key_epoch=manifest.key_epoch,
            seq=manifest.seq,
            active=Accepted(coming.envelope),
            previous=record.previous if is_wave else record.active,
            gone=record.gone if is_wave else record.previous,
            state=State.COMMITTED,
        )
        self._file.write(record)
        self._record, self._coming = record, None
        if self._publication is not None:
            self._publication.end()
        publication = self._stage(coming.envelope, manifest, looks_first=manifest.release in known)
        self._blobs.prune({each.sha256 for each in self._standing})
        self._pause_s = PAUSE_S
        self._hand_down(publication, now_s)

    # It is handed down

    @property
    def _standing(self) -> list[Artefact]:
        """The files of what is handed down and, before them, of the release before.

        Those may still be fetched, as that release may come back; and what comes may have chunks in
        common with them.
        """
        releases = map(_release_of, reversed(self._record.standing))
        return [each for release in releases if release is not None for each in release.artefacts]

    def _clear_up(self) -> None:
        """Has what went go again: the last life may have ended before all of it was gone."""
        standing, gone = self._standing, self._record.gone
        left = None if gone is None else _release_of(gone)
        if left is None:
            return
        kept = {each.sha256 for each in standing}
        leftovers = [each for each in left.artefacts if each.sha256 not in kept]
        self._shelf.hold(self.channel, [*standing, *leftovers], self._blobs)
        self._shelf.hold(self.channel, standing, self._blobs)
        for each in leftovers:
            self._blobs.discard(each)

    def _stage(self, envelope: bytes, manifest: Manifest, *, looks_first: bool) -> Publication:
        """Makes a release the one that is handed down; the one before may still be fetched.

        Args:
            envelope: the signed manifest.
            manifest: the same, read.
            looks_first: whether the site's broker may have its chunks from before.
        """
        self._shelf.hold(self.channel, self._standing, self._blobs)
        self._publication = Publication(
            channel=manifest.channel,
            name=f"seq {manifest.seq} (version {manifest.release.version})",
            envelope=envelope,
            artefacts=manifest.release.artefacts,
            blobs=self._blobs,
            link=self._down,
            topics=self._down_topics,
            looks_first=looks_first,
        )
        return self._publication

    def _hand_down(self, publication: Publication, now_s: float) -> None:
        """Begins to publish; what the disk has lost is fetched when the manifest comes again."""
        publication.begin(now_s)
        if publication.lacks_file:
            self._complaints.say("a file is fetched again to be handed down")
            self._publication = None
            self.reconcile(now_s)

    def _publish(self, publication: Publication, now_s: float) -> None:
        """Goes on publishing; what was given up begins anew, ever more rarely."""
        publication.poll(now_s)
        if publication.trouble and now_s < self._again_s:
            return
        self._again_s = now_s + self._pause_s
        if publication.trouble:
            self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
            self._hand_down(publication, now_s)


def _release_of(accepted: Accepted) -> Release | None:
    """Returns what a manifest in the record releases; None where it cannot be read any more."""
    try:
        return read_manifest(accepted.envelope).release
    except ArtefactError as error:
        log.error("a manifest that was handed down is lost: %s", error)
        return None
