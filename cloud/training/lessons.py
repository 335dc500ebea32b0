"""Reads what an order's models learn from: the base set, and the telemetry."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cloud.training.augmentation import Inputs
from cloud.training.contract import BASE, Labels, Samples
from cloud.training.dataset import (
    Lesson,
    Teacher,
    Weighing,
    first_lesson,
    full_lesson,
    later_lesson,
    replay,
)
from cloud.training.order import Order
from cloud.training.telemetry import read_telemetry
from shared.errors import ArtefactError, StorageError
from shared.npz import as_numbers, read_npz


class Lessons:
    """The lessons of an order.

    Args:
        order: what to train.
        folder: the job's, with the telemetry.
    """

    def __init__(self, order: Order, folder: Path) -> None:
        self._order = order
        self._settings = order.settings
        self._telemetry = None if order.telemetry is None else folder / order.telemetry
        self._weighing = Weighing(self._settings.balance_classes, self._settings.max_weight)

    def base(self, name: str) -> Samples:
        """Returns a part of the base set: ``train`` or ``calibration``.

        Raises:
            StorageError: it cannot be read, or does not fit the pipeline.
        """
        path = self._settings.base / f"{name}.npz"
        data = read_npz(path, "x", "y")
        inputs = as_numbers(data["x"], np.float32, path)
        labels = as_numbers(data["y"], np.int64, path)
        problem = self._problem(inputs.shape, labels)
        if problem:
            raise StorageError(f"cannot use {path}: {problem}")
        return Samples.of(inputs, labels, BASE)

    def tier2(self) -> Lesson:
        """Returns what tier-2 learns first.

        Raises:
            StorageError: the base set cannot be used.
        """
        return full_lesson(self.base("train"), self.base("calibration"), self._weighing)

    def tier1(self, teacher: Teacher) -> Lesson:
        """Returns what tier-1 learns: first from the base set, later from the field as well.

        Args:
            teacher: tier-2; its probabilities at the order's temperature.

        Raises:
            StorageError: base set or telemetry cannot be used.
            ArtefactError: too little is held out to test a model on.
        """
        lesson = self._lesson(teacher)
        tunes, certifies = len(lesson.tuning.labels), len(lesson.certifying.labels)
        if not (tunes and certifies):
            raise ArtefactError(
                f"of what is held out {tunes} samples tune and {certifies} certify: nothing can be "
                f"said of a model. Fix: put more samples into {self._held_out}"
            )
        return lesson

    def _lesson(self, teacher: Teacher) -> Lesson:
        settings, base = self._settings, self.base("train")
        rng = np.random.default_rng(settings.seed)
        if self._telemetry is None:
            kind = Inputs(settings.input_maximum, settings.image_shape)
            calibration = self.base("calibration")
            return first_lesson(base, calibration, teacher, self._weighing, kind=kind, rng=rng)
        replayed = replay(base, settings.replay_samples, rng)
        telemetry = read_telemetry(self._telemetry)
        return later_lesson(telemetry, replayed, teacher, self._weighing, rng=rng)

    @property
    def _held_out(self) -> str:
        if self._telemetry is None:
            return str(self._settings.base / "calibration.npz")
        return "the audit (audit_share of tier-1 nodes)"

    def _problem(self, shape: tuple[int, ...], labels: Labels) -> str:
        wanted, count = self._order.input_shape, len(self._order.labels)
        if labels.shape != shape[:1]:
            return f"`x` holds {shape[0]} samples, `y` is of shape {list(labels.shape)}"
        if shape[1:] != wanted:
            return f"a sample of `x` is of shape {list(shape[1:])}, the pipeline's {list(wanted)}"
        if not len(labels):
            return "it holds no sample"
        if labels.min() < 0 or labels.max() >= count:
            return f"`y` goes from {labels.min()} to {labels.max()}, there are {count} labels"
        return ""
