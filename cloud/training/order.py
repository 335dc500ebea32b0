"""What the cloud wants trained, and what came of it: the two files of a job's folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from cloud.certificate.promise import Promise
from cloud.training.config import TrainingConfig
from cloud.training.contract import Tier, TrainerReport
from shared.errors import StorageError
from shared.messages import UNREADABLE, Public
from shared.model_spec import Calibration

RECIPE = 4
"""Raise it when a change here makes candidates that were cached before out of date."""

LIMITS = frozenset({"memory_bytes", "timeout_s", "first_job", "offer_fp32"})
"""Of the training section, what makes no other candidate."""

ORDER, REPORT, CANDIDATE = "order.json", "report.json", "candidate"
BASE_FILES = ("train.npz", "calibration.npz")


class Order(Public, frozen=True):
    """What to train.

    Attributes:
        pipeline: the pipeline.
        labels: one for each output.
        input_shape: of one sample.
        training: the pipeline's ``training:`` section, as JSON has it.
        promise: what the threshold must hold.
        telemetry: ``telemetry.npz`` in this folder; None trains from scratch.
        teacher: tier-2's ONNX file; None trains one.
        teacher_temperature: what its logits in the telemetry were divided by.
        running: the tier-1 model that serves now, and its calibration, to compare with.
    """

    pipeline: str
    labels: tuple[str, ...]
    input_shape: tuple[int, ...]
    training: dict[str, Any]
    promise: Promise
    telemetry: str | None = None
    teacher: str | None = None
    teacher_temperature: float = 1.0
    running: str | None = None
    running_calibration: Calibration | None = None

    @property
    def settings(self) -> TrainingConfig:
        """The pipeline's ``training:`` section.

        Raises:
            StorageError: it is none.
        """
        try:
            return TrainingConfig.model_validate_json(msgspec.json.encode(self.training))
        except ValidationError as error:
            raise StorageError(f"cannot use the order's training section: {error}") from error


class Report(Public, frozen=True):
    """What came of an order.

    Attributes:
        fingerprint: of the order and its data.
        calibration: of tier-1, on its int8 artefact.
        fp32_calibration: of the same model before quantization, on its fp32 artefact. A certificate
            holds for the artefact that it was made on, with the order's confidence each.
        tier2_calibration: of tier-2, if it was trained.
        int8_bytes: size of the int8 artefact.
        fp32_bytes: size of the fp32 artefact.
        int8_agreement: share of held-out inputs that int8 answers like tier-2, 0 to 1.
        fp32_agreement: the same before quantization.
        running_coverage: share of the certifying inputs that the running release accepts; None
            where there is none.
        samples: inputs that tier-1 learned from.
        seconds: how long it took.
        trainer: which one it was.
        trained: what it said of each model.
    """

    fingerprint: str
    calibration: Calibration
    fp32_calibration: Calibration
    tier2_calibration: Calibration | None
    int8_bytes: int
    fp32_bytes: int
    int8_agreement: float
    fp32_agreement: float
    running_coverage: float | None
    samples: int
    seconds: float
    trainer: str = "sklearn"
    trained: dict[Tier, TrainerReport] = msgspec.field(default_factory=dict)


def read_order(folder: Path) -> tuple[Order, str]:
    """Returns the order in a folder, and the digest of everything that it depends on.

    Raises:
        StorageError: order or data cannot be read.
    """
    try:
        order = msgspec.json.decode((folder / ORDER).read_bytes(), type=Order)
        files = [Path(order.settings.base) / name for name in BASE_FILES]
        files += [folder / order.telemetry] if order.telemetry else []
        decisive = {key: value for key, value in order.training.items() if key not in LIMITS}
        order_bytes = msgspec.json.encode(msgspec.structs.replace(order, training=decisive))
        digest = hashlib.sha256(f"recipe {RECIPE}\n".encode() + order_bytes)
        for path in files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except (OSError, *UNREADABLE) as error:
        raise StorageError(f"cannot read the job in {folder}: {error}") from error
    return order, digest.hexdigest()


def read_report(candidate: Path) -> Report | None:
    """Returns the report in a candidate folder, or None if there is no whole candidate."""
    try:
        return msgspec.json.decode((candidate / REPORT).read_bytes(), type=Report)
    except (OSError, *UNREADABLE):
        return None
