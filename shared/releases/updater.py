"""Carries a node's channel from one release to the next.

The rules are elsewhere: ``ruling.py`` says what a manifest does, ``machine.py`` which step follows
which, ``course.py`` takes the steps, ``journal.py`` keeps the order of disk, memory and report.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import msgspec

from shared.config import PipelineConfig, ReleasesConfig
from shared.errors import ArtefactError, EscalonError, SmokeError, StorageError
from shared.messages import UpdateReport, to_json
from shared.metrics import NodeMetrics
from shared.model import RUNTIME_VERSION, Model
from shared.mqtt.link import Link
from shared.releases.blobs import BlobStore
from shared.releases.clock import not_before
from shared.releases.course import Course, End
from shared.releases.fetch import Fetch
from shared.releases.health import Health
from shared.releases.journal import Journal, Subject
from shared.releases.machine import AFTER_THE_SWAP, BEFORE_THE_SWAP, Event, State
from shared.releases.manifest import Manifest, open_manifest, read_manifest
from shared.releases.memory import available_bytes
from shared.releases.record import Accepted, ChannelFile, ChannelRecord
from shared.releases.ruling import Host, Ruling, check_epoch, check_order, rule
from shared.releases.standing import Standing
from shared.releases.trust import Trust
from shared.releases.update import Update
from shared.topics import Topics

RECONCILE_S = 300.0
JITTER_S = 0.2  # spreads a site's nodes over the broker when a manifest reaches them all at once
MAX_DOUBLINGS = 6
MAX_STOPS = 2

log = logging.getLogger(__name__)


class Trusts(Protocol):
    """Tells whom the node trusts."""

    @property
    def current(self) -> Trust:
        """The trust document in force."""


@dataclass(frozen=True)
class Place:
    """Where an updater works.

    Attributes:
        node: this node's name.
        pipeline: name of the pipeline that its channel serves.
        state_dir: the node's folder.
        link: the broker that releases come from.
        topics: of this node's site.
        threads: that a model may run; None for all that are worth having.
    """

    node: str
    pipeline: str
    state_dir: Path
    link: Link
    topics: Topics
    threads: int | None = None


class Updater:
    """Follows one channel for one pipeline.

    The node calls ``poll`` each turn; what ``serving`` is then serves from the next batch on.

    Args:
        config: the channel.
        pipeline: what the model must fit.
        place: where it works.
        trusts: whose signatures count.
        metrics: what is counted.
        rng: jitter.
        clock: seconds since 1970, as far as the machine knows.
    """

    def __init__(
        self,
        *,
        config: ReleasesConfig,
        pipeline: PipelineConfig,
        place: Place,
        trusts: Trusts,
        metrics: NodeMetrics,
        rng: random.Random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._pipeline = pipeline
        self._place = place
        self._trusts = trusts
        self._metrics = metrics
        self._rng = rng
        self._clock = clock
        self._blobs = BlobStore(place.state_dir / "models" / config.channel)
        self._journal = Journal(
            ChannelFile.of(place.state_dir, config.channel),
            node=place.node,
            channel=config.channel,
            metrics=metrics,
            publish=self._publish,
        )
        self._host = Host(
            site=place.topics.site,
            node=place.node,
            channel=config.channel,
            pipeline=place.pipeline,
            input_shape=pipeline.layout.shape,
            max_artifact_bytes=config.max_artifact_bytes,
            runtime=RUNTIME_VERSION,
            memory_bytes=None,
        )
        self._interrupted: Accepted | None = None
        self._repair_due_s = 0.0
        self._update: Update | None = None
        self._holds = False
        self._reconcile_due_s = 0.0
        self._retries = 0
        self._is_unsaid = False
        self._is_unpruned = False
        self._said = ""
        self._course = Course(
            config=config,
            pipeline=pipeline,
            journal=self._journal,
            blobs=self._blobs,
            work=place.state_dir / "work" / config.channel,
            threads=place.threads,
            utc_s=self._utc_s,
        )
        self._standing = Standing(config.channel, self._journal, self._blobs, self._course.load)

    # What the node calls

    def start(self) -> None:
        """Loads the committed release, if there is one, and settles what a crash left open.

        An update that was cut off after its swap is rolled back: it may be what killed the node.
        One that was cut off before begins anew, with the chunks that are on disk.

        Raises:
            StorageError: the disk does not give the record.
        """
        self._journal.load()
        record = self._journal.record
        if record.pending is not None and record.state in AFTER_THE_SWAP:
            self._standing.quarantine(record.pending)
            self._journal.settle(Event.FAIL, "the node died while it was new")
        elif record.pending is not None:
            self._interrupted = record.pending
            self._journal.assume(pending=None, state=State.IDLE, retry=True)
        self._standing.start()
        self._is_unpruned = self._interrupted is None

    def begin_with(self, model: Model) -> None:
        """Lets a model serve until the first release, and again should that be rolled back."""
        self._standing.model = model

    @property
    def serving(self) -> Model | None:
        """The model that is to serve from the next batch on; None while there is none."""
        if self._update is not None and self._update.model is not None:
            return self._update.model
        return self._standing.model

    def on_connected(self, now_s: float) -> None:
        """Subscribes, and publishes the last report again: the broker may have lost it."""
        accepted, self._interrupted = self._interrupted, None
        if accepted is not None:
            self._guarded(lambda: self._resume(accepted, now_s), now_s)
        self.reconcile(now_s)
        self._journal.say()

    def on_manifest(self, envelope: bytes, now_s: float) -> None:
        """Takes a manifest: verifies it, then does what the rules say."""
        # An emptied retained message is not an uninstall.
        if envelope:
            self._guarded(lambda: self._take(envelope, now_s), now_s)

    def on_chunk(self, sha256: str, index: int, data: bytes, now_s: float) -> None:
        """Takes a chunk, if it belongs to the update under way."""
        fetch = None if self._update is None else self._update.fetch_of(sha256)
        if fetch is not None:
            self._guarded(lambda: fetch.on_chunk(index, data, now_s), now_s)

    def poll(self, health: Health, now_s: float) -> None:
        """Goes as far as it can.

        Args:
            health: what the pipeline has counted so far.
            now_s: monotonic.
        """
        if now_s >= self._reconcile_due_s:
            self.reconcile(now_s)
        if self._is_unsaid and self._place.link.connected:
            self._journal.say()
        if self._update is None:
            self._rest(health, now_s)
        else:
            self._guarded(lambda: self._advance(health, now_s), now_s)

    def _rest(self, health: Health, now_s: float) -> None:
        """Does what there is time for while no update is under way."""
        self._course.note(health, now_s)
        if self._is_unpruned:
            self._is_unpruned = False
            self._standing.prune()
        self._standing.believe(health.samples, self._config.probation.min_samples)
        accepted = self._standing.damaged
        if accepted is not None and self._place.link.connected and now_s >= self._repair_due_s:
            self._repair_due_s = now_s + RECONCILE_S
            self._guarded(lambda: self._resume(accepted, now_s), now_s)

    def reconcile(self, now_s: float) -> None:
        """Has the broker deliver the retained manifest once more.

        At QoS 0: a QoS 1 message would have to be acknowledged behind the samples that still wait
        for their answers. What QoS 0 may lose, the next time brings.
        """
        self._reconcile_due_s = now_s + RECONCILE_S
        self._say_if_stale()
        self._place.link.subscribe(self._place.topics.releases(self._config.channel), 0)

    @property
    def busy(self) -> bool:
        """Whether something goes on that wakes no socket: a child process, a thread, a jitter."""
        if self._update is None:
            return False
        fetches = self._journal.record.state is State.FETCHING
        return not fetches or any(fetch.busy for fetch in self._update.fetches)

    def farewell(self) -> None:
        """Notes that the node stops on purpose: an update in its probation begins anew.

        Only a crash speaks against a model, and being stopped in its probation again and again:
        that may be somebody who sees it do harm.
        """
        record = self._journal.record
        self._standing.forgive()
        if self._update is not None and record.state in AFTER_THE_SWAP:
            if record.stops < MAX_STOPS:
                self._write_if_possible(state=State.SMOKE, stops=record.stops + 1)
            else:
                reason = f"the node was stopped {record.stops + 1} times in its probation"
                self._end(End(Event.FAIL, reason, quarantine=True), self._journal.since_s)

    def close(self) -> None:
        """Ends child and thread; without a farewell before it, as a crash would."""
        if self._update is not None:
            self._update.stop()
        self._course.close()

    def _write_if_possible(self, **changes: Any) -> None:
        try:
            self._journal.write(**changes)
        except StorageError as error:
            self._say_once(f"{self._config.channel}: {error}")

    # What a manifest does

    def _take(self, envelope: bytes, now_s: float) -> None:
        trust, record = self._trusts.current, self._journal.record
        try:
            manifest = open_manifest(envelope, trust.releases)
            check_order(manifest, trust, record, self._config.channel)
        except ArtefactError as error:
            self._say_once(f"{self._config.channel}: release refused: {error}")
            self._metrics.drops.labels(reason="release_refused").inc()
            return
        update = self._update
        ruling = rule(
            manifest,
            record,
            None if update is None else update.release,
            self._standing.release,
            replace(self._host, memory_bytes=available_bytes()),
            serves=self.serving is not None,
            now_s=self._utc_s(),
        )
        self._carry_out(ruling, Accepted(envelope), manifest, now_s)

    def _carry_out(
        self, ruling: Ruling, accepted: Accepted, manifest: Manifest, now_s: float
    ) -> None:
        if ruling.act in ("ignore", "hold"):
            # What is held is retained, and comes again when probation is over: see _end.
            self._holds = self._holds or ruling.act == "hold"
            return
        if ruling.ends is not None:
            self._end(End(*ruling.ends), now_s)
        if ruling.act == "offer":
            self._offer(accepted, manifest, now_s)
            if ruling.refusal:
                self._end(End(Event.REJECT, ruling.refusal), now_s)
            return
        try:
            self._remember(ruling, accepted, manifest, now_s)
        except StorageError as error:
            # What is under way goes on under its own number; the manifest is retained.
            self._say_once(f"{self._config.channel}: seq {manifest.seq} not on disk: {error}")

    def _remember(
        self, ruling: Ruling, accepted: Accepted, manifest: Manifest, now_s: float
    ) -> None:
        match ruling.act:
            case "note":
                self._journal.write(**_memory(manifest, self._journal.record))
            case "adopt":
                self._adopt(accepted, manifest)
            case "confirm":
                self._confirm(manifest, now_s)

    def _adopt(self, accepted: Accepted, manifest: Manifest) -> None:
        """Goes on with what is under way, in the name of a newer manifest of the same release."""
        update = self._update
        if update is None:
            return
        renewed = msgspec.structs.replace(accepted, sha256=update.accepted.sha256)
        memory = _memory(manifest, self._journal.record)
        self._journal.write(pending=renewed, **memory)
        update.accepted, update.manifest, update.trust = renewed, manifest, self._trusts.current

    def _confirm(self, manifest: Manifest, now_s: float) -> None:
        active = self._journal.record.active
        subject = Subject(manifest, active.sha256 if active is not None else "")
        memory = _memory(manifest, self._journal.record)
        self._journal.go(Event.CONFIRM, subject, now_s, "it runs already", retry=False, **memory)

    def _resume(self, accepted: Accepted, now_s: float) -> None:
        """Begins an update anew that the last life has begun, or a release that was damaged."""
        manifest = read_manifest(accepted.envelope)
        repairs = accepted == self._journal.record.active
        self._offer(Accepted(accepted.envelope), manifest, now_s, repairs=repairs)
        if manifest.expires <= self._utc_s() and not repairs:
            self._end(End(Event.REJECT, "it has expired"), now_s)

    def _offer(
        self, accepted: Accepted, manifest: Manifest, now_s: float, *, repairs: bool = False
    ) -> None:
        place = self._place
        fetches = [
            Fetch(
                artefact,
                self._blobs,
                place.link,
                place.topics,
                self._metrics,
                node=place.node,
                known=self._standing.files,
                rng=self._rng,
            )
            for artefact in manifest.release.artefacts
        ]
        self._holds = False
        begins_s = now_s + self._rng.uniform(0, JITTER_S)
        ends_s = begins_s + self._config.deadline_s
        self._update = Update(accepted, manifest, fetches, begins_s, ends_s, repairs=repairs)
        if manifest.order > self._journal.record.order:
            self._retries = 0
        memory = _memory(manifest, self._journal.record)
        try:
            self._journal.go(
                Event.OFFER, self._update.subject, now_s, pending=accepted, retry=False, **memory
            )
        except StorageError as error:
            log.error("%s: the offer is not on disk: %s", self._config.channel, error)
            self._update = None

    # The course of an update

    def _advance(self, health: Health, now_s: float) -> None:
        update = self._update
        if update is None:
            return
        self._check_trust(update)
        end = self._course.advance(update, health, self._standing.model, now_s)
        if end is not None and end.event is Event.COMMIT:
            self._commit(update, end, now_s)
        elif end is not None:
            self._end(end, now_s)

    def _check_trust(self, update: Update) -> None:
        """Refuses what is not yet in place if its keys were revoked since. What runs goes on.

        Raises:
            ArtefactError: the document in force does not trust it.
        """
        trust, record = self._trusts.current, self._journal.record
        is_looked_at = trust is update.trust or record.state not in BEFORE_THE_SWAP
        # What had been committed, and was lost by the disk, was trusted when it was.
        if is_looked_at or update.repairs:
            return
        open_manifest(update.accepted.envelope, trust.releases)
        check_epoch(update.manifest, trust)
        update.trust = trust

    def _commit(self, update: Update, end: End, now_s: float) -> None:
        """Makes the release the active one, on disk first; a disk that is full is asked again."""
        record = self._journal.record
        try:
            self._journal.go(
                Event.COMMIT,
                update.subject,
                now_s,
                end.reason,
                active=update.accepted,
                previous=record.previous if update.repairs else record.active,
                pending=None,
                retry=False,
                proven=end.proven,
                deaths=0,
                stops=0,
            )
        except StorageError as error:
            self._say_once(f"{self._config.channel}: not committed yet: {error}")
            return
        if update.model is not None:
            self._standing.commit(update.model, update.release)
        self._retries = 0
        self._finish(now_s)
        self.reconcile(now_s)  # a newer manifest may have come in the meantime

    def _guarded(self, act: Callable[[], None], now_s: float) -> None:
        """Runs a step; what goes wrong ends the update with its reason, never the node."""
        try:
            act()
        except EscalonError as error:
            log.error("%s: update failed: %s", self._config.channel, error)
            retry = isinstance(error, StorageError)
            quarantine = isinstance(error, SmokeError)
            self._end(End(Event.FAIL, str(error), retry, quarantine), now_s)

    def _end(self, end: End, now_s: float) -> None:
        """Ends the update. A disk that does not take the end finds it again at the next start."""
        update = self._update
        if update is None:
            return
        if end.quarantine:
            self._standing.quarantine(update.accepted)
        self._journal.end(end.event, update.subject, now_s, end.reason, retry=end.retry, stops=0)
        self._finish(now_s)
        if end.retry and not self._holds:
            # Not at once: it has just failed. What fails again and again is tried ever more seldom.
            self._reconcile_due_s = now_s + RECONCILE_S * 2 ** min(self._retries, MAX_DOUBLINGS)
            self._retries += 1
        else:
            self.reconcile(now_s)  # a newer manifest may have come in the meantime

    def _finish(self, now_s: float) -> None:
        if self._update is not None:
            self._update.stop()
            self._repair_due_s = now_s + RECONCILE_S
        self._update = None
        self._is_unpruned = not self._journal.record.retry  # what is tried again keeps its chunks

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.error("%s", text)

    def _say_if_stale(self) -> None:
        """Says that nothing new was signed for too long: something may withhold it."""
        record = self._journal.record
        stale = record.expires is not None and record.expires <= self._utc_s()
        self._metrics.release_stale.labels(channel=self._config.channel).set(stale)
        if stale:
            self._say_once(
                f"{self._config.channel}: the newest manifest that came has expired: nothing newer "
                "was published, or something withholds it. What runs goes on running"
            )

    def _utc_s(self) -> float:
        """Returns seconds since 1970, never earlier than is known for sure.

        What was accepted in an older key epoch tells nothing: a thief may have signed it.
        """
        record = self._journal.record
        is_of_epoch = record.key_epoch == self._trusts.current.key_epoch
        return not_before(self._clock(), record.issued if is_of_epoch else 0.0)

    def _publish(self, report: UpdateReport) -> None:
        topic = self._place.topics.updates(self._place.node, self._config.channel)
        self._is_unsaid = not self._place.link.publish(topic, to_json(report), retain=True)


def _memory(manifest: Manifest, record: ChannelRecord) -> dict[str, Any]:
    """Returns what is remembered of a manifest, so that no older one is accepted again.

    Of an older one nothing: what a crash has cut off, or a disk has damaged, may be begun anew.
    """
    if manifest.order < record.order:
        return {}
    # What a thief has dated to the end of time ends with the thief's key epoch.
    is_new_epoch = manifest.key_epoch > record.key_epoch
    return {
        "key_epoch": manifest.key_epoch,
        "seq": manifest.seq,
        "issued": manifest.issued if is_new_epoch else max(record.issued, manifest.issued),
        "expires": manifest.expires,
    }
