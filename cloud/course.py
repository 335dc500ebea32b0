"""The course of a pipeline in the cloud: first models, then watch → collect → train → judge."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from cloud.certify import Promise
from cloud.config import CloudPipelineConfig
from cloud.job import TrainingJob
from cloud.registry import Entry, Registry
from cloud.releasing import Draft, Releaser
from cloud.retraining import EscalationMonitor
from cloud.store import TelemetryStore
from cloud.trainer import Job, Report
from shared.errors import ArtefactError, EscalonError, StorageError
from shared.messages import GateCount

FIRST_RETRY_S = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judgement:
    """Whether a candidate becomes a release, and why."""

    accepted: bool
    reason: str


def judge(report: Report) -> Judgement:
    """Decides on a candidate: it must be certified, and accept more than what runs now."""
    certificate = report.calibration.certificate
    if certificate is None:
        return Judgement(False, "no threshold can be certified for it")
    running = report.running_coverage
    if running is not None and certificate.coverage <= running:
        return Judgement(
            False, f"it accepts {certificate.coverage:.0%}, what runs accepts {running:.0%}"
        )
    return Judgement(True, f"accepts {certificate.coverage:.0%}, risk at most {certificate.alpha}")


class Course:
    """One pipeline.

    Args:
        name: the pipeline.
        config: its configuration.
        folder: for training jobs.
        store: the telemetry.
        registry: the releases.
        releaser: signs new ones.
    """

    def __init__(
        self,
        *,
        name: str,
        config: CloudPipelineConfig,
        folder: Path,
        store: TelemetryStore,
        registry: Registry,
        releaser: Releaser,
    ) -> None:
        self._name = name
        self._config = config
        self._folder = folder
        self._store = store
        self._registry = registry
        self._releaser = releaser
        self._monitor = EscalationMonitor(config.retrain)
        self._job: TrainingJob | None = None
        self._retrained_s: float | None = None
        self._first_due_s: float | None = None

    def start(self, now_s: float) -> list[Entry]:
        """Returns the releases that stand, or begins to train the first ones.

        Raises:
            EscalonError: registry or folder cannot be used.
        """
        channels = (self._config.tier2_channel, self._config.tier1_channel)
        standing = [release for channel in channels if (release := self._registry.latest(channel))]
        if len(standing) == len(channels):
            self._watch(standing[-1])
            return standing
        self._begin_first(now_s)
        return []

    def count(self, counts: GateCount) -> None:
        """Takes a node's counts."""
        if self._monitor.add(counts.model_version, counts.seen, counts.unsure, time.time()):
            alarm = self._monitor.alarm
            if alarm is not None:
                log.warning(
                    "%s: drift: %.0f %% of %d samples escalated, %.0f %% were certified",
                    self._name, 100 * alarm.rate, alarm.samples, 100 * alarm.expected,
                )  # fmt: skip

    def poll(self, now_s: float) -> list[Entry]:
        """Goes as far as it can; returns new releases to publish."""
        try:
            if self._job is not None:
                return self._judge(self._job, now_s)
            if self._first_due_s is None:
                self._retrain_when_due(now_s)
            elif now_s >= self._first_due_s:
                self._begin_first(now_s)
        except EscalonError as error:
            log.error("%s: %s", self._name, error)
            self._job = None
            if self._registry.latest(self._config.tier1_channel) is None:
                self._first_due_s = now_s + FIRST_RETRY_S
        return []

    @property
    def activity(self) -> str:
        """What it is doing, in words."""
        if self._job is not None:
            return f"{self._name}: training"
        if self._first_due_s is not None:
            return f"{self._name}: there are no first models yet, see the log; trying again"
        alarm = self._monitor.alarm
        if alarm is None:
            return f"{self._name}: watching"
        return (
            f"{self._name}: drift, {alarm.rate:.0%} of {alarm.samples} samples escalated where "
            f"{alarm.expected:.0%} were certified; collecting"
        )

    @property
    def busy(self) -> bool:
        """Whether a training runs."""
        return self._job is not None

    def close(self) -> None:
        """Ends a training that runs; it begins anew at the next start."""
        if self._job is not None:
            self._job.stop()

    def _retrain_when_due(self, now_s: float) -> None:
        alarm, retrain = self._monitor.alarm, self._config.retrain
        if alarm is None or self._cools_down(now_s):
            return
        if self._store.audits_since(self._name, alarm.since) < retrain.audits:
            return
        tier1 = self._registry.latest(self._config.tier1_channel)
        tier2 = self._registry.latest(self._config.tier2_channel)
        if tier1 is None or tier2 is None:
            raise StorageError("a channel has lost its releases")
        folder = self._folder / f"{self._name}-{tier1.manifest.seq + 1}"
        self._retrained_s = now_s
        withheld = self._store.withheld_audits_since(self._name, alarm.since)
        if withheld:
            raise StorageError(
                f"{withheld} audited samples came without their input (uplink.inputs of a tier-2 "
                "node): on the others alone no threshold can be certified"
            )
        self._export(folder, alarm.since)
        log.info("%s: training version %d", self._name, tier1.manifest.seq + 1)
        self._begin(TrainingJob(folder, self._make_job((tier1, tier2))), now_s)

    def _begin_first(self, now_s: float) -> None:
        log.info("%s: training the first models", self._name)
        self._first_due_s = None
        self._begin(TrainingJob(self._config.training.first_job, self._make_job()), now_s)

    def _cools_down(self, now_s: float) -> bool:
        began_s = self._retrained_s
        return began_s is not None and now_s < began_s + self._config.retrain.cool_down_s

    def _begin(self, job: TrainingJob, now_s: float) -> None:
        job.start(now_s)
        self._job = job

    def _judge(self, job: TrainingJob, now_s: float) -> list[Entry]:
        report = job.poll(now_s)
        if report is None:
            return []
        self._job = None
        judgement = judge(report)
        verdict = "released" if judgement.accepted else "rejected"
        log.info("%s: candidate %s: %s", self._name, verdict, judgement.reason)
        if not judgement.accepted:
            if self._registry.latest(self._config.tier1_channel) is None:
                raise ArtefactError("there is no first release to serve; look at the data")
            return []
        releases = [self._release(draft) for draft in self._drafts(job, report)]
        self._watch(releases[-1])
        return releases

    def _drafts(self, job: TrainingJob, report: Report) -> list[Draft]:
        """Returns what to release: tier-2 first, for tier-1's threshold speaks of it."""
        golden = job.candidate / "golden.npz"
        config, folder = self._config, job.candidate
        small = Draft(
            self._name, config.tier1_channel, folder / "tier1.onnx", "int8",
            report.calibration, golden, "tier1",
        )  # fmt: skip
        if report.tier2_calibration is None:
            return [small]
        full = Draft(
            self._name, config.tier2_channel, folder / "tier2.onnx", "fp32",
            report.tier2_calibration, golden, "tier2",
        )  # fmt: skip
        return [full, small]

    def _release(self, draft: Draft) -> Entry:
        return self._releaser.release(draft, self._config, time.time())

    def _watch(self, tier1: Entry) -> None:
        release = tier1.manifest.release
        certificate = release.variants[0].calibration.certificate
        expected = 1 - certificate.coverage if certificate else 1.0
        self._monitor.begin(release.version, expected)

    def _make_job(self, running: tuple[Entry, Entry] | None = None) -> Job:
        config = self._config
        training, certificate = config.training, config.certificate
        job = Job(
            pipeline=self._name,
            seed=training.seed,
            labels=config.labels,
            input_maximum=training.input_maximum,
            image_shape=training.image_shape,
            base=str(training.base.absolute()),
            promise=Promise(certificate.alpha, certificate.delta, certificate.escalation_budget),
        )
        if running is None:
            return job
        tier1, tier2 = (entry.manifest.release.variants[0] for entry in running)
        blobs = self._registry.blobs
        return msgspec.structs.replace(
            job,
            telemetry="telemetry.npz",
            teacher=str(blobs.path(tier2.artefact.sha256).absolute()),
            teacher_temperature=tier2.calibration.temperature,
            running=str(blobs.path(tier1.artefact.sha256).absolute()),
            running_calibration=tier1.calibration,
        )

    def _export(self, folder: Path, since: float) -> None:
        """Writes the telemetry since an instant as the trainer's data."""
        data = self._store.since(self._name, since, self._config.input.shape)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            np.savez(folder / "telemetry.npz", x=data.inputs, tier2=data.tier2, audit=data.audit)
        except OSError as error:
            raise StorageError(f"cannot write {folder}: {error.strerror}") from error
