"""Carries a node's channel from one release to the next. The rules are in ``machine.py``."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from shared.config import PipelineConfig, ReleasesConfig
from shared.errors import (
    ArtefactError,
    EscalonError,
    ManifestError,
    SignatureError,
    StorageError,
)
from shared.messages import Step, UpdateReport, to_json
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.mqtt.link import Link
from shared.releases.blobs import BlobStore
from shared.releases.fetch import Fetch
from shared.releases.health import Health
from shared.releases.loading import load_release
from shared.releases.machine import (
    AFTER_THE_SWAP,
    UNDER_WAY,
    Event,
    State,
    advance,
)
from shared.releases.manifest import Manifest
from shared.releases.record import ChannelFile, ChannelRecord
from shared.releases.signing import Trust, open_envelope
from shared.releases.smoke import SmokeTest
from shared.topics import Topics

MAX_BROKEN_SHARE = 0.05
RECONCILE_S = 300.0
JITTER_S = 0.2  # spreads a site's nodes over the broker when a manifest reaches them all at once

log = logging.getLogger(__name__)


@dataclass
class Update:
    """An update under way.

    Attributes:
        envelope: the signed manifest.
        manifest: the same, read.
        fetch: brings the artefact.
        steps: states it has left, and how long it was in each.
        since_s: when the present state began, monotonic.
    """

    envelope: bytes
    manifest: Manifest
    fetch: Fetch
    begins_s: float
    ends_s: float
    steps: list[Step] = field(default_factory=list)
    since_s: float = 0.0
    smoke: SmokeTest | None = None
    loading: Future[Model] | None = None
    model: Model | None = None
    health: Health | None = None


class Updater:
    """Follows one channel for one pipeline.

    The node calls ``poll`` each turn; what ``serving`` is then serves from the next batch on.

    Args:
        config: the channel and its trust.
        pipeline: what the model must fit.
        node: this node's name.
        state_dir: the node's folder.
        link: from where releases come.
        topics: of this node's site.
        trust: keys that may sign.
        metrics: what is counted.
        rng: jitter.
        threads: that a model may run; None for all that are worth having.
    """

    def __init__(
        self,
        *,
        config: ReleasesConfig,
        pipeline: PipelineConfig,
        node: str,
        state_dir: Path,
        link: Link,
        topics: Topics,
        trust: Trust,
        metrics: NodeMetrics,
        rng: random.Random,
        threads: int | None = None,
    ) -> None:
        self._config = config
        self._pipeline = pipeline
        self._node = node
        self._link = link
        self._topics = topics
        self._trust = trust
        self._metrics = metrics
        self._rng = rng
        self._threads = threads
        self._work = state_dir / "work" / config.channel
        self._file = ChannelFile(state_dir / "channels" / f"{config.channel}.json")
        self._blobs = BlobStore(state_dir / "models" / config.channel)
        self._record = ChannelRecord()
        self._interrupted: bytes | None = None
        self._committed: Model | None = None
        self._update: Update | None = None
        self._reconcile_due_s = 0.0
        self._said = ""
        self._loader = ThreadPoolExecutor(1, thread_name_prefix=f"load-{config.channel}")

    # What the node calls

    def start(self) -> None:
        """Loads the committed release, if there is one, and settles what a crash left open.

        An update that was cut off after its swap is rolled back: it may be what killed the node.
        One that was cut off before begins anew, with the chunks that are on disk.
        """
        self._record = record = self._file.read()
        if record.pending is not None and record.state in AFTER_THE_SWAP:
            self._settle_crash(record.pending)
        elif record.pending is not None:
            self._interrupted = record.pending
            self._record = msgspec.structs.replace(record, pending=None, state=State.IDLE)
        for envelope in (self._record.active, self._record.previous):
            if envelope is not None and self._committed is None:
                self._committed = self._reload(envelope)
                if self._committed is None and envelope == self._record.active:
                    self._interrupted = self._interrupted or envelope  # fetched anew

    def begin_with(self, model: Model) -> None:
        """Lets a model serve until the first release, and again should that be rolled back."""
        self._committed = model

    @property
    def serving(self) -> Model | None:
        """The model that is to serve from the next batch on; None while there is none."""
        update = self._update
        if update is not None and self._record.state in AFTER_THE_SWAP:
            return update.model
        return self._committed

    def on_connected(self, now_s: float) -> None:
        """Subscribes, and publishes the last report again: the broker may have lost it."""
        if self._interrupted is not None:
            envelope, self._interrupted = self._interrupted, None
            self._guarded(lambda: self._take(envelope, now_s, again=True), now_s)
        self._reconcile(now_s)
        if self._record.report is not None:
            self._publish(self._record.report)

    def on_manifest(self, envelope: bytes, now_s: float) -> None:
        """Takes a manifest: verifies it, then accepts or rejects it with a reason."""
        # An emptied retained message is not an uninstall.
        if envelope:
            self._guarded(lambda: self._take(envelope, now_s, again=False), now_s)

    def on_chunk(self, sha256: str, index: int, data: bytes, now_s: float) -> None:
        """Takes a chunk, if it belongs to the update under way."""
        update = self._update
        if update is not None and update.manifest.artefact.sha256 == sha256:
            self._guarded(lambda: update.fetch.on_chunk(index, data, now_s), now_s)

    def poll(self, health: Health, now_s: float) -> None:
        """Goes as far as it can.

        Args:
            health: what the pipeline has counted so far.
            now_s: monotonic.
        """
        if self._update is not None:
            self._guarded(lambda: self._advance(health, now_s), now_s)
        elif self._link.connected and now_s >= self._reconcile_due_s:
            self._reconcile(now_s)

    @property
    def busy(self) -> bool:
        """Whether something goes on that wakes no socket: a child process, a thread, a jitter."""
        return self._update is not None and self._record.state is not State.FETCHING

    def close(self) -> None:
        """Ends child and thread. An update in its probation begins anew at the next start.

        Only a crash speaks against the model; a stop on purpose does not.
        """
        if self._update is not None:
            if self._update.smoke is not None:
                self._update.smoke.stop()
            if self._record.state in AFTER_THE_SWAP:
                try:
                    self._file.write(msgspec.structs.replace(self._record, state=State.SMOKE))
                except StorageError as error:
                    log.error("%s: %s", self._config.channel, error)
        self._loader.shutdown(wait=False, cancel_futures=True)

    # The course of an update

    def _take(self, envelope: bytes, now_s: float, *, again: bool) -> None:
        try:
            manifest = open_envelope(envelope, self._trust)
            if not again and not self._is_news(manifest):
                return
        except (SignatureError, ManifestError) as error:
            log.error("%s: release refused: %s", self._config.channel, error)
            self._metrics.drops.labels(reason="release_refused").inc()
            return
        if self._update is not None and self._record.state in AFTER_THE_SWAP:
            return  # it is retained and comes again when probation is over: see _end
        problem = self._unfit(manifest)
        if self._update is not None:
            self._end(Event.SUPERSEDE, f"seq {manifest.seq} is newer", now_s)
        self._offer(envelope, manifest, now_s)
        if problem:
            self._end(Event.REJECT, problem, now_s)

    def _offer(self, envelope: bytes, manifest: Manifest, now_s: float) -> None:
        fetch = Fetch(manifest.artefact, self._blobs, self._link, self._topics, self._metrics)
        begins_s = now_s + self._rng.uniform(0, JITTER_S)
        self._update = Update(
            envelope, manifest, fetch, begins_s, begins_s + self._config.deadline_s, since_s=now_s
        )
        before = self._record
        self._record = msgspec.structs.replace(before, seq=manifest.seq, pending=envelope)
        try:
            self._go(Event.OFFER, "", now_s)
        except StorageError as error:
            log.error("%s: the offer is not on disk: %s", self._config.channel, error)
            self._record, self._update = before, None

    def _advance(self, health: Health, now_s: float) -> None:
        update = self._update
        if update is None:
            return
        match self._record.state:
            case State.OFFERED if now_s >= update.begins_s:
                self._go(Event.FETCH, "", now_s)
                update.fetch.begin(now_s)
            case State.FETCHING:
                self._fetch(update, now_s)
            case State.VERIFIED:
                self._blobs.assemble(update.manifest.artefact)
                self._go(Event.STAGE, "", now_s)
            case State.STAGED:
                self._go(Event.PROVE, "", now_s)
                path = self._blobs.path(update.manifest.artefact.sha256)
                update.smoke = SmokeTest(update.manifest, path, self._work)
                update.smoke.start(now_s)
            case State.SMOKE:
                self._prove(update, now_s)
            case State.ACTIVATING:
                # The node has put the model in place since the last turn.
                update.health = health
                self._go(Event.WATCH, "", now_s)
            case State.PROBATION:
                self._watch(update, health, now_s)

    def _fetch(self, update: Update, now_s: float) -> None:
        if update.fetch.complete:
            self._go(Event.VERIFY, "", now_s)
        elif now_s >= update.ends_s:
            reason = f"not complete after {self._config.deadline_s:g} s"
            self._end(Event.TIME_OUT, reason, now_s, retry=True)
        else:
            update.fetch.poll(now_s)

    def _prove(self, update: Update, now_s: float) -> None:
        if update.smoke is not None:
            if update.smoke.poll(now_s) is None:
                return
            update.smoke = None
            update.loading = self._loader.submit(self._load, update.manifest)
        if update.loading is not None and update.loading.done():
            update.model = update.loading.result()
            self._go(Event.ACTIVATE, "", now_s)

    def _watch(self, update: Update, health: Health, now_s: float) -> None:
        before = update.health or health
        batches = health.batches - before.batches
        broken = health.broken_batches - before.broken_batches
        if broken > MAX_BROKEN_SHARE * batches:
            self._quarantine(update.manifest)
            reason = f"{broken} of {batches} batches without sound scores"
            self._end(Event.FAIL, reason, now_s)
            return
        if now_s - update.since_s >= self._config.probation_s:
            self._commit(update, now_s)

    def _commit(self, update: Update, now_s: float) -> None:
        """Makes the release the active one, on disk first; a disk that is full is asked again."""
        record = msgspec.structs.replace(
            self._after(update, Event.COMMIT, "", now_s),
            active=update.envelope,
            previous=self._record.active,
            pending=None,
            retry=False,
        )
        try:
            self._file.write(record)
        except StorageError as error:
            self._say_once(f"{self._config.channel}: not committed yet: {error}")
            return
        self._committed = update.model
        self._finish(update, record, now_s)
        self._reconcile(now_s)  # a newer manifest may have come in the meantime
        self._prune()

    def _guarded(self, act: Callable[[], None], now_s: float) -> None:
        """Runs a step; what goes wrong ends the update with its reason, never the node."""
        try:
            act()
        except EscalonError as error:
            log.error("%s: update failed: %s", self._config.channel, error)
            self._end(Event.FAIL, str(error), now_s, retry=isinstance(error, StorageError))

    def _go(self, event: Event, reason: str, now_s: float) -> None:
        """Moves to the next state: on disk first, then here and in the report."""
        if self._update is not None:
            record = self._after(self._update, event, reason, now_s)
            self._file.write(record)
            self._enter(self._update, record, now_s)

    def _end(self, event: Event, reason: str, now_s: float, *, retry: bool = False) -> None:
        """Ends the update. A disk that does not take the end finds it again at the next start."""
        update = self._update
        if update is None:
            return
        record = msgspec.structs.replace(
            self._after(update, event, reason, now_s), pending=None, retry=retry
        )
        try:
            self._file.write(record)
        except StorageError as error:
            log.error("%s: the end of the update is not on disk: %s", self._config.channel, error)
        self._finish(update, record, now_s)
        if retry:
            self._reconcile_due_s = now_s + RECONCILE_S  # not at once: it has just failed
        else:
            self._reconcile(now_s)  # a newer manifest may have come in the meantime

    def _finish(self, update: Update, record: ChannelRecord, now_s: float) -> None:
        update.fetch.end()
        if update.smoke is not None:
            update.smoke.stop()
        self._enter(update, record, now_s)
        self._update = None

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.error("%s", text)

    def _after(self, update: Update, event: Event, reason: str, now_s: float) -> ChannelRecord:
        """Returns the record after an event."""
        left = self._record.state
        steps = list(update.steps)
        if left in UNDER_WAY:
            steps.append(Step(state=left.value, seconds=round(now_s - update.since_s, 3)))
        state = advance(left, event)
        report = UpdateReport(
            node=self._node,
            channel=self._config.channel,
            seq=update.manifest.seq,
            version=update.manifest.version,
            state=state.value,
            reason=reason,
            since=time.time(),
            steps=steps,
        )
        return msgspec.structs.replace(self._record, state=state, report=report)

    def _enter(self, update: Update, record: ChannelRecord, now_s: float) -> None:
        """Makes a record the present one, and says so."""
        self._record = record
        report = record.report
        if report is None:
            return
        update.steps, update.since_s = report.steps, now_s
        self._metrics.updates.labels(channel=report.channel, state=report.state).inc()
        log.info("%s seq %d: %s %s", report.channel, report.seq, report.state, report.reason)
        self._publish(report)

    # What may be accepted, and what a restart finds

    def _is_news(self, manifest: Manifest) -> bool:
        """Whether it is later than what was accepted; the present one comes at each connect."""
        if manifest.channel != self._config.channel:
            raise ManifestError(f"it is for channel {manifest.channel}")
        if manifest.seq == self._record.seq:
            return self._record.retry and self._update is None
        if manifest.seq < self._record.seq:
            raise ManifestError(f"seq {manifest.seq} is older than {self._record.seq}")
        return True

    def _unfit(self, manifest: Manifest) -> str:
        """Returns why a release is not for this node; empty if it is."""
        shape, artefact = self._pipeline.layout.shape, manifest.artefact
        if manifest.expires <= time.time():
            return "it has expired"
        if manifest.input_shape != shape:
            return f"it takes inputs of shape {manifest.input_shape}, this pipeline has {shape}"
        if artefact.size > self._config.max_artifact_bytes:
            return f"{artefact.size} bytes are more than this node takes"
        if artefact.sha256 in self._record.quarantined:
            return f"{artefact.sha256} has failed on this node before"
        return ""

    def _settle_crash(self, envelope: bytes) -> None:
        record = self._record
        try:
            self._quarantine(open_envelope(envelope, self._trust))
        except ArtefactError as error:
            log.error(
                "%s: the update that was cut off is unreadable: %s", self._config.channel, error
            )
        report = record.report and msgspec.structs.replace(
            record.report, state=State.ROLLED_BACK.value, reason="the node died while it was new"
        )
        self._record = msgspec.structs.replace(
            self._record, pending=None, state=advance(record.state, Event.FAIL), report=report
        )
        try:
            self._file.write(self._record)
        except StorageError as error:
            log.error("%s: the rollback is not on disk: %s", self._config.channel, error)

    def _quarantine(self, manifest: Manifest) -> None:
        digests = (*self._record.quarantined, manifest.artefact.sha256)
        self._record = msgspec.structs.replace(self._record, quarantined=digests)

    def _reload(self, envelope: bytes) -> Model | None:
        try:
            manifest = open_envelope(envelope, self._trust)
            if not self._blobs.has(manifest.artefact):
                raise ArtefactError(f"{manifest.artefact.sha256} is damaged or gone")
            return self._load(manifest)
        except ArtefactError as error:
            log.error("%s: a committed release cannot serve: %s", self._config.channel, error)
            return None

    def _load(self, manifest: Manifest) -> Model:
        path = self._blobs.path(manifest.artefact.sha256)
        return load_release(path, manifest, self._pipeline, self._threads)

    def _prune(self) -> None:
        """Deletes artefacts that are neither active nor previous."""
        keep = set()
        for envelope in (self._record.active, self._record.previous):
            if envelope is not None:
                keep.add(open_envelope(envelope, self._trust).artefact.sha256)
        self._blobs.prune(keep)

    def _reconcile(self, now_s: float) -> None:
        """Has the broker deliver the retained manifest once more.

        At QoS 0: a QoS 1 message would have to be acknowledged behind the samples that still wait
        for their answers. What QoS 0 may lose, the next time brings.
        """
        self._reconcile_due_s = now_s + RECONCILE_S
        self._link.subscribe(self._topics.releases(self._config.channel), 0)

    def _publish(self, report: UpdateReport) -> None:
        topic = self._topics.updates(self._node, self._config.channel)
        self._link.publish(topic, to_json(report), retain=True)
