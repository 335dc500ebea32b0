"""What a trainer is given and what it gives back: one folder.

::

    job.json             what to train                                         (Job)
    dataset/train.npz    the samples to learn from                             (Samples)
    dataset/tuning.npz   of the same kind: when to stop, and nothing else      (Samples)
    model.onnx           the trainer writes it: one fp32 file, features → logits
    report.json          the trainer may write it                              (TrainerReport)

A line of JSON that it prints with ``epoch`` and ``epochs`` is its progress. What certifies and
gates a model is never in this folder. ``docs/training.md`` shows a trainer of a user's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from cloud.training.arrays import write_npz
from cloud.training.config import ModelConfig
from shared.config import Section
from shared.durable import write_durably
from shared.errors import StorageError
from shared.files import read_file
from shared.messages import UNREADABLE, Public
from shared.npz import as_numbers, read_npz
from shared.scores import Floats

JOB, MODEL, REPORT = "job.json", "model.onnx", "report.json"
TRAIN, TUNING = "dataset/train.npz", "dataset/tuning.npz"
MAX_REPORT_BYTES = 64 * 2**10

NOT_LABELLED = -1
ORIGINS = ("base", "noisy", "escalated", "audit")
"""Where a sample comes from, by its number in ``origin``: the base set, a noisy copy of it, what
tier-1 was not sure of, what it may have been sure of."""
BASE, NOISY, ESCALATED, AUDIT = range(len(ORIGINS))

SMALLEST_PROBABILITY = 1e-30

Tier = Literal["tier1", "tier2"]
Labels = NDArray[np.int64]


class Job(Section):
    """What to train."""

    schema_version: Literal[1] = 1
    """Of this file and the data set."""
    pipeline: str
    """The pipeline."""
    tier: Tier
    """Whose model: ``tier2`` learns the labels, ``tier1`` what tier-2 answers."""
    labels: tuple[str, ...]
    """One for each output, in their order."""
    input_shape: tuple[int, ...]
    """Shape of one sample."""
    input_maximum: float
    """Largest value of an input; the smallest is 0."""
    image_shape: tuple[int, int] | None = None
    """Height and width where samples are images."""
    teacher_temperature: float = Field(default=1.0, gt=0)
    """What tier-2's logits were divided by before its softmax gave ``teacher``."""
    seed: int = 1
    """Decides all randomness."""
    model: ModelConfig
    """How the model is made: the section of the cloud's YAML."""


class TrainerReport(Public, frozen=True):
    """What a trainer says of its work. A program may leave all of it out.

    Attributes:
        epochs: passes over the samples until the model that it gives.
        loss: of that model on the tuning samples.
        seconds: how long it took.
        weights: of the model, that are not zero.
        notes: anything else, in words.
    """

    epochs: int | None = None
    loss: float | None = None
    seconds: float | None = None
    weights: int | None = None
    notes: str = ""


@dataclass(frozen=True)
class Samples:
    """Samples to learn from.

    Attributes:
        inputs: float32 [N, ...] (``x``).
        labels: a person's, int64 [N]; -1 for none (``y``).
        weights: float32 [N], 1 on the average (``weight``).
        origin: uint8 [N], numbers of ``ORIGINS`` (``origin``).
        teacher: tier-2's probabilities, float32 [N, labels] (``teacher``); in a trainer's folder
            as the labels of people have corrected them. None where there is no teacher.
    """

    inputs: Floats
    labels: Labels
    weights: Floats
    origin: NDArray[np.uint8]
    teacher: Floats | None = None

    @classmethod
    def of(
        cls, inputs: Floats, labels: Labels | None, origin: int, teacher: Floats | None = None
    ) -> Self:
        """Returns samples that come from the same place and weigh the same."""
        count = len(inputs)
        labels = np.full(count, NOT_LABELLED) if labels is None else labels
        ones = np.ones(count, np.float32)
        return cls(inputs, labels, ones, np.full(count, origin, np.uint8), teacher)

    @property
    def targets(self) -> Labels:
        """What is right: a person's label where there is one, else tier-2's answer. int64 [N]."""
        if self.teacher is None:
            return self.labels
        return np.where(self.labels >= 0, self.labels, self.teacher.argmax(axis=1))

    @property
    def answers(self) -> Labels:
        """What tier-2 answers, int64 [N].

        Raises:
            StorageError: there is no teacher.
        """
        return np.asarray(self._taught().argmax(axis=1), np.int64)

    def logits(self, temperature: float) -> Floats:
        """Returns the teacher's logits, up to a constant for each sample.

        Args:
            temperature: what they were divided by.

        Raises:
            StorageError: there is no teacher.
        """
        floored = np.maximum(self._taught(), SMALLEST_PROBABILITY)
        return np.asarray(temperature * np.log(floored), np.float32)

    def _taught(self) -> Floats:
        if self.teacher is None:
            raise StorageError("the data set has no array `teacher` to learn from")
        return self.teacher

    def taken(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Self:
        """Returns some of the samples."""
        return replace(
            self,
            inputs=self.inputs[rows],
            labels=self.labels[rows],
            weights=self.weights[rows],
            origin=self.origin[rows],
            teacher=None if self.teacher is None else self.teacher[rows],
        )

    def write(self, path: Path) -> None:
        """Writes them, whole or not at all.

        Raises:
            StorageError: the disk does not take them.
        """
        arrays: dict[str, NDArray[Any]] = {
            "x": self.inputs,
            "y": self.labels,
            "weight": self.weights,
            "origin": self.origin,
        }
        if self.teacher is not None:
            arrays["teacher"] = self.teacher
        write_npz(path, arrays)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads what ``write`` wrote.

        Raises:
            StorageError: it cannot be read, or is damaged.
        """
        data = read_npz(path, "x", "y", "weight", "origin")
        samples = cls(
            as_numbers(data["x"], np.float32, path),
            as_numbers(data["y"], np.int64, path),
            as_numbers(data["weight"], np.float32, path),
            data["origin"],
            as_numbers(data["teacher"], np.float32, path) if "teacher" in data else None,
        )
        if len({len(each) for each in data.values()}) > 1:
            raise StorageError(f"cannot use {path}: its arrays are not of one length")
        return samples


def joined(*parts: Samples) -> Samples:
    """Returns all samples, one part after the other."""
    teachers = [each.teacher for each in parts if each.teacher is not None]
    return Samples(
        np.concatenate([each.inputs for each in parts]),
        np.concatenate([each.labels for each in parts]),
        np.concatenate([each.weights for each in parts]),
        np.concatenate([each.origin for each in parts]),
        np.concatenate(teachers) if len(teachers) == len(parts) else None,
    )


def write_task(folder: Path, job: Job, train: Samples, tuning: Samples) -> None:
    """Fills a trainer's folder.

    Raises:
        StorageError: the disk does not take it.
    """
    train.write(folder / TRAIN)
    tuning.write(folder / TUNING)
    write_durably(folder / JOB, job.model_dump_json(indent=2).encode())


def read_job(folder: Path) -> Job:
    """Returns the job in a trainer's folder.

    Raises:
        StorageError: it cannot be read.
    """
    path = folder / JOB
    try:
        return Job.model_validate_json(read_file(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StorageError(f"cannot use {path}: {where}: {first['msg']}") from error


def write_result(folder: Path, model: bytes, report: TrainerReport) -> None:
    """Writes what a trainer has made: the model, and behind it the report.

    Raises:
        StorageError: the disk does not take it.
    """
    write_durably(folder / MODEL, model)
    write_durably(folder / REPORT, msgspec.json.encode(report))


def read_trainer_report(path: Path) -> TrainerReport:
    """Returns a trainer's report; an empty one where it left none that can be read."""
    try:
        if path.is_symlink() or path.stat().st_size > MAX_REPORT_BYTES:
            return TrainerReport()
        return msgspec.json.decode(path.read_bytes(), type=TrainerReport)
    except (OSError, *UNREADABLE):
        return TrainerReport()
