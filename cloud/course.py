"""The course of a pipeline in the cloud: first models, then watch → collect → train → judge."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path

from cloud.config import CloudPipelineConfig
from cloud.director import Director
from cloud.gathering import Gathering, Wanted
from cloud.judgement import Judgement, judge
from cloud.orders import first_order, later_order
from cloud.registration import Registration
from cloud.registry import Registry
from cloud.retraining import Retraining, forget_order
from cloud.store import TelemetryStore
from cloud.training.candidate import Candidate
from cloud.training.config import TrainingConfig
from cloud.training.job import TrainingJob
from cloud.training.jobs_folder import job_folder
from cloud.training.progress import Progress
from cloud.training.trainers import require
from cloud.version import Version
from cloud.vigil import Vigil
from cloud.watching.state import UnderWay
from cloud.watching.triggers import in_words
from cloud.withheld import abilities
from shared.errors import ArtefactError, EscalonError, StorageError

FIRST_RETRY_S = 60.0
SHARES_EVERY_S = 60.0
TELEMETRY_SHARE = 1 / 8
"""Of a training's memory: what it learns from is there several times."""

log = logging.getLogger(__name__)


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
        self._job: TrainingJob | Retraining | None = None
        self._registration: Registration | None = None
        self._first_due_s: float | None = None
        self._again_s = -math.inf
        self._shares_s = -math.inf
        self._abilities = ""
        self._failure = ""

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
            self._failure = f"the last training failed: {error}"
            self._give_up(now_s)

    def _give_up(self, now_s: float) -> None:
        """Ends what has failed. It is tried again: first models soon, later ones when they may."""
        self._job = self._registration = None
        # While the end of it cannot be written down, it is still under way.
        self._again_s = now_s + FIRST_RETRY_S
        if not self._tier1.standing:
            self._first_due_s = now_s + FIRST_RETRY_S
        try:
            self._vigil.end_training(decided=False)
        except EscalonError as error:
            log.error("%s: %s", self._name, error)

    def _advance(self, now_s: float) -> None:
        if self._job is not None:
            self._judge(self._job, now_s)
            return
        if self._registration is not None:
            if self._registration.poll(now_s, time.time()):
                self._registration = None
                self._vigil.end_training(decided=True)
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
        seen = self._vigil.in_words(trains=self._config.training is not None)
        return f"{self._name}: " + "; ".join(filter(None, (seen, self._failure)))

    @property
    def busy(self) -> bool:
        """Whether a training runs."""
        return self._job is not None

    @property
    def progress(self) -> Progress | None:
        """How far the training is; None if none runs."""
        return None if self._job is None else self._job.progress

    def close(self) -> None:
        """Ends a training that runs; it goes on at the next start."""
        if self._job is not None:
            self._job.stop()

    def _retrain_when_due(self, training: TrainingConfig, now_s: float) -> None:
        if self._tier1.refusal or now_s < self._again_s:
            return
        if self._vigil.under_way is None:
            decision = self._vigil.decide(now_s, self._tier2.standing)
            if decision.act != "train":
                return
            number = self._registry.next_name(self._tier1.channel.name)
            forget_order(job_folder(self._folder, self._name, number))
            self._vigil.begin_training(number)
            causes = in_words(decision.causes)
            log.info("%s: training version %s: %s", self._name, number, causes)
        under_way = self._vigil.under_way
        if under_way is not None:
            self._begin(self._retraining(training, under_way), now_s)

    def _retraining(self, training: TrainingConfig, under_way: UnderWay) -> Retraining:
        """Returns the training that is under way, to begin or to go on with."""
        tier1, tier2 = self._version(self._tier1), self._version(self._tier2)
        order = later_order(
            first_order(self._name, self._config, training), tier1, tier2, self._registry.blobs
        )
        wanted = Wanted(
            pipeline=self._name,
            since_s=under_way.since_s,
            tier2_version=tier2.name,
            shape=self._config.input.shape,
            labels=len(self._config.labels),
            most_bytes=int(training.memory_bytes * TELEMETRY_SHARE),
            seed=training.seed,
        )
        folder = job_folder(self._folder, self._name, under_way.version)
        return Retraining(folder, order, lambda path: Gathering(self._store, wanted, path))

    def _begin_first(self, training: TrainingConfig, now_s: float) -> None:
        log.info("%s: training the first models", self._name)
        self._first_due_s = None
        order = first_order(self._name, self._config, training)
        self._begin(TrainingJob(training.first_job, order), now_s)

    def _begin(self, job: TrainingJob | Retraining, now_s: float) -> None:
        job.start(now_s)
        self._job, self._failure = job, ""

    def _judge(self, job: TrainingJob | Retraining, now_s: float) -> None:
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
        if self._has_changed:
            judgement = Judgement((), "another drift, or another version, came after its samples")
        verdict = "taken" if judgement.accepted else "rejected"
        log.info("%s: candidate %s: %s", self._name, verdict, judgement.reason)
        if not judgement.accepted:
            if not self._tier1.standing:
                raise ArtefactError("there is no first release to serve; look at the data")
            self._vigil.end_training(decided=True)
            return
        candidate = Candidate(
            job.candidate, report, self._name, self._config.labels, judgement.precisions
        )
        directors = self._tier1, self._tier2
        self._registration = Registration(candidate, directors, self._registry, self._chunk_bytes)

    @property
    def _has_changed(self) -> bool:
        """Whether the candidate's samples are of the traffic as it was before a change."""
        under_way = self._vigil.under_way
        return under_way is not None and self._vigil.since_s > under_way.since_s

    def _version(self, director: Director) -> Version:
        """Returns the version that stands in a channel."""
        version = self._registry.version(director.channel.name, director.standing)
        if version is None:
            raise StorageError(
                f"version {director.standing} of {director.channel.name} is damaged or gone. "
                "Fix: offer another one"
            )
        return version
