"""What an order takes: lessons → trainers → what is deployed → what is known of it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import msgspec

from cloud.training.accept import accept, load
from cloud.training.config import ModelConfig
from cloud.training.contract import (
    MODEL,
    REPORT,
    Job,
    Tier,
    TrainerReport,
    read_trainer_report,
    write_task,
)
from cloud.training.dataset import Lesson, answered, certifying_part
from cloud.training.lessons import Lessons
from cloud.training.order import Order, Report
from cloud.training.progress import ProgressLines
from cloud.training.trainers import train
from cloud.training.trial import (
    FROZEN,
    RECENT,
    TIER1_FP32,
    TIER2,
    calibrate_tier2,
    examine,
    optimized,
    write_golden,
)
from shared.durable import write_durably
from shared.model import Model
from shared.scores import Floats, probabilities

FILES: dict[Tier, str] = {"tier1": TIER1_FP32, "tier2": TIER2}


class Making:
    """Makes one candidate.

    Args:
        order: what to train.
        folder: the job's.
        work: where the candidate grows; models that stand there already are of the same order.
        say: is told how far it is.
    """

    def __init__(self, order: Order, folder: Path, work: Path, say: ProgressLines) -> None:
        self._order = order
        self._settings = order.settings
        self._lessons = Lessons(order, folder)
        self._work = work
        self._say = say
        self._trained: dict[Tier, TrainerReport] = {}

    def report(self, fingerprint: str) -> Report:
        """Makes the candidate, and returns what came of it.

        Args:
            fingerprint: of the order and its data.

        Raises:
            StorageError: the data cannot be read, or the disk takes no more.
            ConfigError: the trainer lacks what it rests on.
            ArtefactError: the trainer failed, or what it made cannot be used.
        """
        began_s = time.monotonic()
        order, work = self._order, self._work
        teacher = self._teacher()
        lesson = self._lessons.tier1(lambda inputs: self._asked(teacher, inputs))
        fp32 = self._model("tier1", lesson)
        self._say.stage("testing")
        models = optimized(work, order, lesson, fp32)
        write_golden(work, lesson.tested.inputs, models, teacher)
        self._keep_tests(lesson, teacher)
        findings = examine(work, order, lesson, models)
        calibration = self._lessons.base("calibration")
        return Report(
            fingerprint=fingerprint,
            tier2_calibration=None if order.teacher else calibrate_tier2(teacher, calibration),
            samples=len(lesson.train.labels),
            seconds=round(time.monotonic() - began_s, 3),
            trainer=self._settings.trainer,
            trained=self._trained,
            **vars(findings),
        )

    def _teacher(self) -> Model:
        if self._order.teacher is not None:
            return load(Path(self._order.teacher), self._order.labels, self._order.input_shape)
        return self._model("tier2", self._lessons.tier2())

    def _asked(self, teacher: Model, inputs: Floats) -> Floats:
        return probabilities(teacher.scores(inputs), "logits", self._order.teacher_temperature)

    def _model(self, tier: Tier, lesson: Lesson) -> Model:
        """Has a model trained, unless it was before this run was killed."""
        target, said = self._work / FILES[tier], self._work / f"{tier}.json"
        task = self._work / "trainer" / tier
        if not target.exists():
            job = self._job(tier)
            shutil.rmtree(task, ignore_errors=True)
            write_task(task, job, lesson.train, lesson.tuning)
            self._say.stage(tier)
            train(task, self._settings, self._say)
            report = read_trainer_report(task / REPORT)
            write_durably(said, msgspec.json.encode(report))
            accept(task, target, job, lesson.tuning.inputs, self._settings.model_bytes)
        (task / MODEL).unlink(missing_ok=True)  # its copy is what is used
        self._trained[tier] = read_trainer_report(said)
        return load(target, self._order.labels, self._order.input_shape)

    def _job(self, tier: Tier) -> Job:
        settings, order = self._settings, self._order
        model = settings.tier1 if tier == "tier1" else settings.tier2
        return Job(
            pipeline=order.pipeline,
            tier=tier,
            labels=order.labels,
            input_shape=order.input_shape,
            input_maximum=settings.input_maximum,
            image_shape=settings.image_shape,
            teacher_temperature=order.teacher_temperature,
            seed=settings.seed,
            model=ModelConfig.model_validate(model.model_dump()),
        )

    def _keep_tests(self, lesson: Lesson, teacher: Model) -> None:
        """Keeps what a gate holds a candidate against, once the trainer has ended."""
        if self._order.telemetry is None:
            lesson.certifying.write(self._work / FROZEN)
            return
        frozen = certifying_part(self._lessons.base("calibration"))
        answered(frozen, lambda inputs: self._asked(teacher, inputs)).write(self._work / FROZEN)
        lesson.certifying.write(self._work / RECENT)
