"""The course of a pipeline in the cloud: first models, then watch → collect → train → judge."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cloud.config import CloudPipelineConfig
from cloud.director import Director
from cloud.orders import first_order, later_order
from cloud.registration import Registration
from cloud.registry import Registry
from cloud.store import TelemetryStore
from cloud.training.candidate import Candidate
from cloud.training.config import TrainingConfig
from cloud.training.dataset import Telemetry
from cloud.training.job import TrainingJob
from cloud.training.jobs_folder import job_folder
from cloud.training.order import Report
from cloud.training.progress import Progress
from cloud.training.telemetry import NAME as TELEMETRY
from cloud.training.telemetry import write_telemetry
from cloud.training.trainers import require
from cloud.version import Version
from cloud.vigil import Vigil
from cloud.watching.triggers import in_words
from cloud.withheld import abilities
from shared.errors import ArtefactError, EscalonError, StorageError
from shared.model_spec import Calibration
from shared.releases.artefact import Precision

FIRST_RETRY_S = 60.0
SHARES_EVERY_S = 60.0
MAX_TRAINING_SAMPLES = 50_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judgement:
    """Whether a candidate becomes a release, and why.

    Attributes:
        precisions: of the files that it is released with, the main one first; none if it is not.
        reason: in words.
    """

    precisions: tuple[Precision, ...]
    reason: str

    @property
    def accepted(self) -> bool:
        """Whether it becomes a release."""
        return bool(self.precisions)


def judge(report: Report, *, offers_fp32: bool = False, is_void: bool = False) -> Judgement:
    """Decides on a candidate: a file must be certified, and accept no less than what runs now.

    What runs is no yardstick once its certificate is void: under a drift the old model may be as
    confident as ever, and accept much that it answers wrongly.

    Args:
        report: on the candidate.
        offers_fp32: whether it may be released before quantization as well. Each file is judged by
            its own certificate: a node may serve any of them.
        is_void: whether the certificate of what runs is void.
    """
    fitted: dict[Precision, Calibration] = {"int8": report.calibration}
    if offers_fp32:
        fitted["fp32"] = report.fp32_calibration
    found = {name: _verdict(each, report.running_coverage, is_void=is_void) for name, each in fitted.items()}
    precisions = tuple(name for name, (is_good, _) in found.items() if is_good)
    return Judgement(precisions, "; ".join(f"{name} {why}" for name, (_, why) in found.items()))


def _verdict(
    calibration: Calibration, running: float | None, *, is_void: bool
) -> tuple[bool, str]:
    """Returns whether a file may be released, and why."""
    certificate = calibration.certificate
    if certificate is None:
        return False, calibration.reason or "cannot be certified with any threshold"
    accepts = f"accepts {certificate.coverage:.0%}"
    if running is None:
        return True, f"{accepts}, risk at most {certificate.alpha}"
    runs = f"what runs accepts {running:.0%}"
    if is_void:
        runs += ", which counts for nothing: its certificate is void"
    elif certificate.coverage < running:
        return False, f"{accepts}, {runs}"
    return True, f"{accepts}, risk at most {certificate.alpha}; {runs}"


class Course:
    """One pipeline.

    Args:
        name: the pipeline.
        config: its configuration.
        chunk_bytes: size of the chunks in which files travel.
        folder: for training jobs.
        store: the telemetry.
        registry: the versions.
        directors: of both channels, by channel.
        vigil: watches what stands in tier-1's channel.
    """

    def __init__(
        self,
        *,
        name: str,
        config: CloudPipelineConfig,
        chunk_bytes: int,
        folder: Path,
        store: TelemetryStore,
        registry: Registry,
        directors: Mapping[str, Director],
        vigil: Vigil,
    ) -> None:
        self._name = name
        self._config = config
        self._chunk_bytes = chunk_bytes
        self._folder = folder
        self._store = store
        self._registry = registry
        self._tier1 = directors[config.tier1_channel]
        self._tier2 = directors[config.tier2_channel]
        self._vigil = vigil
        self._job: TrainingJob | None = None
        self._registration: Registration | None = None
        self._first_due_s: float | None = None
        self._shares_s = -math.inf
        self._abilities = ""

    def start(self, now_s: float) -> None:
        """Begins to train the first models where none stand.

        Raises:
            EscalonError: registry, folder or trainer cannot be used.
        """
        training = self._config.training
        if training is None:
            return
        require(training.trainer)
        if not (self._tier1.standing and self._tier2.standing):
            self._begin_first(training, now_s)

    def poll(self, now_s: float) -> None:
        """Goes as far as it can; a new version is proposed to its channel's director."""
        try:
            # Whatever else goes on: a drift does not wait for a training to end.
            self._vigil.poll(now_s)
            self._look(now_s)
        except EscalonError as error:
            log.error("%s: %s", self._name, error)
        try:
            self._advance(now_s)
        except EscalonError as error:
            log.error("%s: %s", self._name, error)
            self._job = self._registration = None
            if not self._tier1.standing:
                self._first_due_s = now_s + FIRST_RETRY_S

    def _advance(self, now_s: float) -> None:
        if self._job is not None:
            self._judge(self._job, now_s)
            return
        if self._registration is not None:
            if self._registration.poll(now_s, time.time()):
                self._registration = None
            return
        training = self._config.training
        if training is None:
            return
        if self._first_due_s is None:
            self._retrain_when_due(training, now_s)
        elif now_s >= self._first_due_s:
            self._begin_first(training, now_s)

    def _look(self, now_s: float) -> None:
        """Looks now and then which inputs come."""
        if now_s >= self._shares_s:
            self._shares_s = now_s + SHARES_EVERY_S
            said, self._abilities = self._abilities, abilities(self._store.input_shares(self._name))
            if self._abilities and self._abilities != said:
                log.warning("%s: %s", self._name, self._abilities)

    @property
    def activity(self) -> str:
        """What it is doing, in words."""
        return "; ".join(filter(None, (self._doing, self._abilities)))

    @property
    def _doing(self) -> str:
        if self._job is not None:
            progress = str(self._job.progress)
            return f"{self._name}: training" + (f": {progress}" if progress else "")
        if self._registration is not None:
            trouble = self._registration.trouble
            return f"{self._name}: " + (f"a candidate waits: {trouble}" if trouble else "releasing")
        if self._first_due_s is not None:
            return f"{self._name}: there are no first models yet, see the log; trying again"
        return f"{self._name}: {self._vigil.in_words(trains=self._config.training is not None)}"

    @property
    def busy(self) -> bool:
        """Whether a training runs."""
        return self._job is not None

    @property
    def progress(self) -> Progress | None:
        """How far the training is; None if none runs."""
        return None if self._job is None else self._job.progress

    def close(self) -> None:
        """Ends a training that runs; it begins anew at the next start."""
        if self._job is not None:
            self._job.stop()

    def _retrain_when_due(self, training: TrainingConfig, now_s: float) -> None:
        if self._tier1.refusal:
            return
        decision, since_s = self._vigil.decide(now_s), self._vigil.since_s
        if decision.act != "train":
            return
        # First, so that what fails below is not tried again at once.
        self._vigil.note_training()
        tier1, tier2 = self._version(self._tier1), self._version(self._tier2)
        number = self._registry.next_name(tier1.channel)
        folder = job_folder(self._folder, self._name, number)
        audits = self._config.retrain.audits
        withheld = self._store.withheld_audits_since(self._name, since_s, audits)
        if withheld:
            raise StorageError(
                f"{withheld} audited samples came without their input (uplink.inputs of a tier-2 "
                "node): on the others alone no threshold can be certified"
            )
        self._export(folder, since_s)
        log.info("%s: training version %s: %s", self._name, number, in_words(decision.causes))
        order = first_order(self._name, self._config, training)
        order = later_order(order, tier1, tier2, self._registry.blobs)
        self._begin(TrainingJob(folder, order), now_s)

    def _begin_first(self, training: TrainingConfig, now_s: float) -> None:
        log.info("%s: training the first models", self._name)
        self._first_due_s = None
        order = first_order(self._name, self._config, training)
        self._begin(TrainingJob(training.first_job, order), now_s)

    def _begin(self, job: TrainingJob, now_s: float) -> None:
        job.start(now_s)
        self._job = job

    def _judge(self, job: TrainingJob, now_s: float) -> None:
        report = job.poll(now_s)
        if report is None:
            return
        self._job = None
        training = self._config.training
        judgement = judge(
            report,
            offers_fp32=training is not None and training.offer_fp32,
            is_void=self._vigil.is_void,
        )
        verdict = "taken" if judgement.accepted else "rejected"
        log.info("%s: candidate %s: %s", self._name, verdict, judgement.reason)
        if not judgement.accepted:
            if not self._tier1.standing:
                raise ArtefactError("there is no first release to serve; look at the data")
            return
        candidate = Candidate(
            job.candidate, report, self._name, self._config.labels, judgement.precisions
        )
        directors = self._tier1, self._tier2
        self._registration = Registration(candidate, directors, self._registry, self._chunk_bytes)

    def _version(self, director: Director) -> Version:
        """Returns the version that stands in a channel."""
        version = self._registry.version(director.channel.name, director.standing)
        if version is None:
            raise StorageError(
                f"version {director.standing} of {director.channel.name} is damaged or gone. "
                "Fix: offer another one"
            )
        return version

    def _export(self, folder: Path, since: float) -> None:
        """Writes the telemetry since an instant for the training."""
        data = self._store.traffic(
            self._name, since_s=since, limit=MAX_TRAINING_SAMPLES, newest=True
        )
        has = self._store.fit(data.number, self._config.input.shape)
        telemetry = Telemetry(
            self._store.inputs(data.number[has], self._config.input.shape),
            data.tier2[has],
            data.audit[has],
            data.inclusion_probability[has],
            data.label[has],
        )
        write_telemetry(folder / TELEMETRY, telemetry)
