"""Reads what the store has of the version that stands, and keeps what must not be forgotten."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cloud.watching.agreement import Agreement
from cloud.watching.config import RetrainConfig
from cloud.watching.port import Store
from cloud.watching.series import audited
from cloud.watching.state import Alarm, UnderWay, VersionWatch, WatchFile, WatchRecord
from cloud.watching.triggers import Decision, Facts, decide
from cloud.watching.watch import Promised, Watch
from shared.releases.manifest import MAX_REASON, Void

POLL_S = 1.0
PAGE = 1000
"""Rows that are read in one turn, of each kind: some hundredths of a second."""

log = logging.getLogger(__name__)


@dataclass
class _Reading:
    """Where a version's rows are read."""

    watch: Watch
    counts: int
    audits: int


class Watcher:
    """Watches the version of tier-1's model that stands, in one pipeline.

    What it says follows from the store and from its file: a restart reads the version's rows again
    from where the file says, and neither forgets an alarm nor raises it twice.

    Args:
        pipeline: the pipeline.
        config: of the tests and triggers.
        store: the telemetry.
        path: of its file.
    """

    def __init__(self, pipeline: str, config: RetrainConfig, store: Store, path: Path) -> None:
        self._pipeline = pipeline
        self._config = config
        self._store = store
        self._file = WatchFile(path)
        self._record: WatchRecord | None = None
        self._version = ""
        self._promised = Promised(1.0, None)
        self._reading: _Reading | None = None
        self._due_s = 0.0

    @property
    def version(self) -> str:
        """The version that is watched; empty for none."""
        return self._version

    @property
    def is_certified(self) -> bool:
        """Whether anything was certified of the version."""
        return self._promised.alpha is not None

    @property
    def alarm(self) -> Alarm | None:
        """The drift that was found; None for none."""
        known = self._known.of(self._version)
        return known.alarm if known else None

    @property
    def since_s(self) -> float:
        """Since when samples are of the traffic as it is now, seconds since 1970."""
        known = self._known.of(self._version)
        if known is None:
            return 0.0
        return known.alarm.since_s if known.alarm else known.began_s

    @property
    def agreement(self) -> Agreement | None:
        """How often tier-2 agrees with what tier-1 accepts; None while nothing is known of it."""
        return self._reading.watch.agreement if self._reading else None

    def begin(self, version: str, promised: Promised, now_s: float) -> None:
        """Watches a version: a new one from now on, one that was watched before as if never left.

        Args:
            version: the version.
            promised: what was certified of it.
            now_s: seconds since 1970.

        Raises:
            StorageError: store or file cannot be used.
        """
        known = self._known.of(version) or self._fresh(version, now_s)
        self._keep(self._known.keeping(known))
        self._version, self._promised = version, promised
        self._read_anew(known)

    def poll(self, monotonic_s: float) -> Alarm | None:
        """Reads on, once a second; at once where there is more than a page.

        Args:
            monotonic_s: the clock.

        Returns:
            The alarm that this raised.

        Raises:
            StorageError: store or file cannot be used.
        """
        reading = self._reading
        if reading is None or monotonic_s < self._due_s:
            return None
        counts = self._store.counts_after(self._pipeline, reading.counts, PAGE)
        found = self._store.traffic(
            self._pipeline,
            after=reading.audits,
            limit=PAGE,
            tier1_version=self._version,
            audited_only=True,
        )
        alarms = [
            alarm
            for alarm in (
                reading.watch.take_counts(counts),
                reading.watch.take_audits(audited(found)),
            )
            if alarm is not None
        ]
        reading.counts = counts[-1].number if counts else reading.counts
        reading.audits = int(found.number[-1]) if len(found.number) else reading.audits
        is_full = len(counts) == PAGE or len(found.number) == PAGE
        self._due_s = monotonic_s if is_full else monotonic_s + POLL_S
        return self._note(min(alarms, key=lambda each: each.number, default=None), reading.watch)

    def void_due(self, *, is_void: bool, now_s: float) -> Void | None:
        """Returns what the version's manifest has to say and does not yet; None for nothing.

        Once it has said so and no longer does, a person has ended the alarm: then the version is
        watched anew.

        Args:
            is_void: whether it says now that the certificate holds no more.
            now_s: seconds since 1970.

        Raises:
            StorageError: store or file cannot be used.
        """
        known = self._known.of(self._version)
        if known is None or known.alarm is None:
            return None
        if not is_void and not known.voided:
            return Void(reason=known.alarm.words[:MAX_REASON], since=known.alarm.since_s)
        if is_void and not known.voided:
            self._keep(self._known.keeping(msgspec.structs.replace(known, voided=True)))
        elif not is_void:
            log.info("%s: version %s was offered anew; its alarm is over", self._pipeline,
                     self._version)  # fmt: skip
            known = self._fresh(self._version, now_s)
            self._keep(self._known.keeping(known))
            self._read_anew(known)
        return None

    def decide(self, now_s: float, tier2_version: str | None = None) -> Decision:
        """Returns whether to train now.

        Args:
            now_s: seconds since 1970.
            tier2_version: the one that teaches; only what it answered certifies.

        Raises:
            StorageError: the store does not answer.
        """
        known, record = self._known.of(self._version), self._known
        if known is None:
            return Decision("rest", ())
        first = decide(self._facts(known, record, now_s), self._config)
        if first.act != "collect":
            return first
        # Only now is the store asked: there is a cause, and it is not too soon.
        began = known.alarm.number if known.alarm else known.began_number
        since, enough = max(record.trained_number, began), self._config.audits
        audits = self._store.audits_after(self._pipeline, since, enough, tier2_version)
        return decide(self._facts(known, record, now_s, audits=audits), self._config)

    @property
    def under_way(self) -> UnderWay | None:
        """The training that has begun and whose candidate is not decided on; None for none."""
        return self._known.under_way

    def begin_training(self, version: str, now_s: float) -> None:
        """Remembers that a training begins.

        Args:
            version: that its candidate is to become.
            now_s: seconds since 1970.

        Raises:
            StorageError: store or file cannot be used.
        """
        under_way = UnderWay(version, now_s, self.since_s, self._store.newest())
        self._keep(msgspec.structs.replace(self._known, tried_s=now_s, under_way=under_way))

    def end_training(self, *, decided: bool) -> None:
        """Remembers that a training has ended.

        Args:
            decided: whether its candidate was taken or rejected: then what had come before it
                is no longer new. If it failed, it is tried again after the cool-down.

        Raises:
            StorageError: the file cannot be written.
        """
        record, under_way = self._known, self._known.under_way
        if under_way is None:
            return
        if decided:
            record = msgspec.structs.replace(
                record, trained_s=under_way.began_s, trained_number=under_way.number
            )
        self._keep(msgspec.structs.replace(record, under_way=None))

    def _facts(
        self, known: VersionWatch, record: WatchRecord, now_s: float, audits: int = 0
    ) -> Facts:
        enough, samples = self._config.after_samples, 0
        if enough is not None:
            since = max(record.trained_number, known.began_number)
            samples = self._store.samples_after(self._pipeline, since, enough)
        return Facts(
            now_s=now_s,
            began_s=known.began_s,
            tried_s=record.tried_s,
            trained_s=record.trained_s,
            drift=known.alarm.words if known.alarm else "",
            samples=samples,
            audits=audits,
        )

    @property
    def _known(self) -> WatchRecord:
        if self._record is None:
            self._record = self._file.read()
        return self._record

    def _fresh(self, version: str, now_s: float) -> VersionWatch:
        newest = self._store.newest()
        return VersionWatch(
            version=version,
            began_s=now_s,
            began_number=newest,
            counts_after=newest,
            audits_after=newest,
        )

    def _read_anew(self, known: VersionWatch) -> None:
        watch = Watch(known, self._promised, self._config)
        self._reading = _Reading(watch, known.counts_after, known.audits_after)
        self._due_s = 0.0

    def _note(self, alarm: Alarm | None, watch: Watch) -> Alarm | None:
        """Keeps what was learned, and the first alarm."""
        before = self._known.of(self._version)
        if before is None:
            return None
        after = watch.known(before)
        if alarm is not None and before.alarm is None:
            after = msgspec.structs.replace(after, alarm=alarm)
        if after != before:
            self._keep(self._known.keeping(after))
        return alarm if before.alarm is None else None

    def _keep(self, record: WatchRecord) -> None:
        if record != self._record:
            self._file.write(record)
            self._record = record
