"""The trainers by name: each takes a trainer's folder and leaves a model in it."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

from cloud.training.command_trainer import run_command
from cloud.training.config import TrainerName, TrainingConfig
from cloud.training.contract import (
    TRAIN,
    TUNING,
    Job,
    Samples,
    TrainerReport,
    read_job,
    write_result,
)
from cloud.training.export import to_onnx
from cloud.training.fitted import Fitted
from cloud.training.progress import Say
from shared.errors import ConfigError

BuiltIn = Callable[[Job, Samples, Samples, Say], Fitted]

MODULES = {
    "sklearn": "cloud.training.sklearn_trainer",
    "torch": "cloud.training.deep.torch_trainer",
}
"""Imported when they train, and not before: what they rest on takes a second and much memory."""


def require(trainer: TrainerName) -> None:
    """Sees to it that a trainer has what it rests on.

    Raises:
        ConfigError: a package is missing; says which extra brings it.
    """
    if trainer == "torch" and importlib.util.find_spec("torch") is None:
        raise ConfigError(
            "trainer `torch` needs PyTorch, which is not installed. "
            "Fix: pip install 'escalon[torch]', or write `trainer: sklearn`"
        )


def train(folder: Path, settings: TrainingConfig, say: Say) -> None:
    """Has the trainer of a configuration fill its folder.

    Args:
        folder: with job and data set.
        settings: which trainer.
        say: is told how far it is; a program of a user's prints that itself.

    Raises:
        ConfigError: the trainer lacks what it rests on, or cannot do what is asked.
        ArtefactError: it failed.
        StorageError: job or data cannot be read, or the model cannot be written.
    """
    require(settings.trainer)
    if settings.trainer == "command":
        run_command(settings.command, folder, settings.environment)
    else:
        _train(folder, importlib.import_module(MODULES[settings.trainer]).train, say)


def _train(folder: Path, built_in: BuiltIn, say: Say) -> None:
    began_s = time.monotonic()
    job = read_job(folder)
    samples, tuning = Samples.read(folder / TRAIN), Samples.read(folder / TUNING)
    fitted = built_in(job, samples, tuning, say)
    report = TrainerReport(
        epochs=fitted.epochs,
        loss=fitted.loss,
        seconds=round(time.monotonic() - began_s, 3),
        weights=fitted.network.weights,
        notes=fitted.notes,
    )
    write_result(folder, to_onnx(fitted.network, job.tier), report)
