"""Watches what stands in a pipeline's tier-1 channel, and has its certificate voided."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from cloud.director import Director
from cloud.watching.agreement import Agreement
from cloud.watching.config import RetrainConfig
from cloud.watching.port import Store
from cloud.watching.state import Alarm, UnderWay
from cloud.watching.triggers import Decision, in_words
from cloud.watching.watch import Promised
from cloud.watching.watcher import Watcher
from shared.errors import StorageError
from shared.metrics import CloudMetrics
from shared.releases.release import Release

LOOK_EVERY_S = 1.0
SHOW_EVERY_S = 10.0
RETRY_S = 10.0

log = logging.getLogger(__name__)


class Vigil:
    """Joins the watcher to the director of tier-1's channel, and says what it sees.

    Args:
        pipeline: the pipeline.
        config: when to train again.
        store: the telemetry.
        folder: of all pipelines' watches.
        director: of tier-1's channel.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        pipeline: str,
        config: RetrainConfig,
        store: Store,
        folder: Path,
        director: Director,
        metrics: CloudMetrics,
    ) -> None:
        self._pipeline = pipeline
        self._director = director
        self._metrics = metrics
        self._watcher = Watcher(pipeline, config, store, folder / f"{pipeline}.json")
        self._decision = Decision("rest", ())
        self._due_s = self._look_s = self._show_s = 0.0

    @property
    def alarm(self) -> Alarm | None:
        """The drift that was found; None for none."""
        return self._watcher.alarm

    @property
    def is_void(self) -> bool:
        """Whether the certificate of what stands is void, or will be said to be."""
        return self.alarm is not None or self._director.is_void(self._director.standing)

    @property
    def since_s(self) -> float:
        """Since when samples are of the traffic as it is now, seconds since 1970."""
        return self._watcher.since_s

    @property
    def agreement(self) -> Agreement | None:
        """How often tier-2 agrees with what tier-1 accepts; None while nothing is known of it."""
        return self._watcher.agreement

    def poll(self, monotonic_s: float) -> None:
        """Reads on, notes an alarm, has the certificate voided.

        Args:
            monotonic_s: the clock.

        Raises:
            EscalonError: store, registry or file cannot be used; for a while it is not tried again.
        """
        standing = self._director.standing
        if not standing or monotonic_s < self._due_s:
            return
        self._due_s = monotonic_s + RETRY_S
        self._watch(standing, monotonic_s)
        if monotonic_s >= self._show_s:
            self._show_s = monotonic_s + SHOW_EVERY_S
            self._show()
        self._due_s = monotonic_s

    def _watch(self, standing: str, monotonic_s: float) -> None:
        if standing != self._watcher.version:
            self._watcher.begin(standing, self._promised(standing), time.time())
        alarm = self._watcher.poll(monotonic_s)
        if alarm is not None:
            log.warning("%s: drift (%s): %s", self._pipeline, alarm.test, alarm.words)
            self._metrics.drift_alarms.labels(self._pipeline, alarm.test).inc()
        self._void(standing)

    def decide(self, monotonic_s: float, tier2_version: str | None = None) -> Decision:
        """Returns whether to train now; the store is asked once a second at most.

        Args:
            monotonic_s: the clock.
            tier2_version: the one that teaches.

        Raises:
            StorageError: store or file cannot be used; for a while it is not tried again.
        """
        if monotonic_s >= self._look_s:
            self._look_s = monotonic_s + RETRY_S
            self._decision = self._watcher.decide(time.time(), tier2_version)
            self._look_s = monotonic_s + LOOK_EVERY_S
        return self._decision

    @property
    def under_way(self) -> UnderWay | None:
        """The training that has begun and whose candidate is not decided on; None for none.

        Raises:
            StorageError: the file cannot be read.
        """
        return self._watcher.under_way

    def begin_training(self, version: str) -> None:
        """Remembers that a training begins.

        Args:
            version: that its candidate is to become.

        Raises:
            StorageError: store or file cannot be used.
        """
        self._watcher.begin_training(version, time.time())
        self._decision = Decision("rest", ())

    def end_training(self, *, decided: bool) -> None:
        """Remembers that a training has ended.

        Args:
            decided: whether its candidate was taken or rejected. If it failed, it is tried again.

        Raises:
            StorageError: the file cannot be written.
        """
        self._watcher.end_training(decided=decided)

    def in_words(self, *, trains: bool) -> str:
        """Returns what is seen and awaited.

        Args:
            trains: whether the cloud trains the pipeline's models.
        """
        alarm, decision = self.alarm, self._decision
        if alarm is None and decision.act == "rest":
            return "watching"
        drift = f"drift, {alarm.words}; the certificate is void" if alarm else ""
        if not trains:
            return f"{drift}; people train its models" if drift else "watching"
        doing = {"rest": "collecting", "collect": "collecting", "cool_down": "waiting after the "
                 "last training", "train": "training is due"}[decision.act]  # fmt: skip
        return "; ".join(filter(None, (drift or in_words(decision.causes), doing)))

    def _promised(self, version: str) -> Promised:
        channel = self._director.channel
        found = channel.registry.version(channel.name, version)
        if found is None:
            raise StorageError(
                f"version {version} of {channel.name} is damaged or gone. Fix: offer another one"
            )
        return promised(found.release)

    def _void(self, version: str) -> None:
        is_void = self._director.is_void(version)
        void = self._watcher.void_due(is_void=is_void, now_s=time.time())
        if void is not None:
            self._director.void(version, void)

    def _show(self) -> None:
        counts = self.alarm is None and self._watcher.is_certified
        self._metrics.certificate_valid.labels(self._pipeline).set(counts)
        found = self.agreement
        if found is None:
            return
        for way, estimate in (("confidence", found.expected), ("audit", found.audited)):
            for name in ("value", "lower", "upper"):
                gauge = self._metrics.agreement.labels(self._pipeline, way, name)
                gauge.set(getattr(estimate, name))


def promised(release: Release) -> Promised:
    """Returns what was certified of a release. Which of its files serves the counts do not say."""
    certificates = [each.calibration.certificate for each in release.variants]
    accepted = min(each.coverage if each else 0.0 for each in certificates)
    known = [each.alpha for each in certificates if each]
    return Promised(1.0 - accepted, max(known) if len(known) == len(certificates) else None)
