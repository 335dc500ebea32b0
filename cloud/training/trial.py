"""What is deployed of a trained model, and what is known of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloud.certificate.calibration import calibrate
from cloud.certificate.temperature import fit_temperature
from cloud.optimize.quantize import quantize_int8
from cloud.training.accept import load
from cloud.training.arrays import write_npz
from cloud.training.contract import Labels, Samples
from cloud.training.dataset import Lesson
from cloud.training.order import Order
from shared.durable import write_durably
from shared.files import read_file
from shared.model import Model
from shared.model_spec import Calibration
from shared.scores import Floats

GOLDEN_SAMPLES = 8
GOLDEN = "golden.npz"
FROZEN, RECENT = "held_out/frozen.npz", "held_out/recent.npz"
"""What no trainer has seen: of the base set, and of the field."""
TIER1, TIER1_FP32, TIER2 = "tier1.onnx", "tier1.fp32.onnx", "tier2.onnx"


@dataclass(frozen=True)
class Findings:
    """What is known of a candidate; the fields of ``Report`` with these names say more."""

    calibration: Calibration
    fp32_calibration: Calibration
    int8_bytes: int
    fp32_bytes: int
    int8_agreement: float
    fp32_agreement: float
    running_coverage: float | None


@dataclass(frozen=True)
class Models:
    """The forms of tier-1's model, loaded.

    Attributes:
        int8: quantized.
        fp32: as it was trained.
    """

    int8: Model
    fp32: Model


def optimized(work: Path, order: Order, lesson: Lesson, fp32: Model) -> Models:
    """Writes the other forms of tier-1's model, and returns them loaded.

    Here, and nowhere else, it is decided which forms of a model nodes may get.

    Args:
        work: with ``tier1.fp32.onnx``; gets ``tier1.onnx``.
        order: whose labels and shape they are.
        lesson: its training samples give the ranges of the activations.
        fp32: the model as it was trained.

    Raises:
        StorageError: the disk does not take it.
        ArtefactError: it does not run.
    """
    int8 = quantize_int8(read_file(work / TIER1_FP32), lesson.train.inputs)
    write_durably(work / TIER1, int8)
    return Models(load(work / TIER1, order.labels, order.input_shape), fp32)


def examine(work: Path, order: Order, lesson: Lesson, models: Models) -> Findings:
    """Calibrates and certifies what is deployed, and compares it.

    Here, and nowhere else, a model meets samples that no trainer has seen.

    Args:
        work: the candidate's files.
        order: the promise, and what runs now.
        lesson: tuning samples, and those that only test.
        models: what may be deployed.

    Raises:
        ArtefactError: a model does not run.
    """
    tested, tuning = lesson.tested, len(lesson.tuning.labels)
    answers, promise = tested.answers, order.promise
    int8, fp32 = models.int8.scores(tested.inputs), models.fp32.scores(tested.inputs)
    return Findings(
        calibration=calibrate(int8, answers, tuning, promise, lesson.people),
        fp32_calibration=calibrate(fp32, answers, tuning, promise, lesson.people),
        int8_bytes=(work / TIER1).stat().st_size,
        fp32_bytes=(work / TIER1_FP32).stat().st_size,
        int8_agreement=_agreement(int8, answers),
        fp32_agreement=_agreement(fp32, answers),
        running_coverage=_running_coverage(order, lesson.certifying.inputs),
    )


def write_golden(work: Path, inputs: Floats, models: Models, tier2: Model) -> None:
    """Writes a few inputs with what the models answer to them.

    Raises:
        StorageError: the disk does not take it.
    """
    inputs = inputs[:GOLDEN_SAMPLES]
    arrays = {
        "inputs": inputs,
        "tier1": models.int8.scores(inputs),
        "tier1_fp32": models.fp32.scores(inputs),
        "tier2": tier2.scores(inputs),
    }
    write_npz(work / GOLDEN, arrays)


def calibrate_tier2(teacher: Model, calibration: Samples) -> Calibration:
    """Fits tier-2's temperature on the labels of people; it has nobody to escalate to."""
    logits = teacher.scores(calibration.inputs)
    return Calibration(fit_temperature(logits, calibration.labels), 0.0)


def _agreement(logits: Floats, answers: Labels) -> float:
    return float((logits.argmax(axis=1) == answers).mean())


def _running_coverage(order: Order, inputs: Floats) -> float | None:
    calibration = order.running_calibration
    if order.running is None or calibration is None:
        return None
    running = load(Path(order.running), order.labels, order.input_shape, calibration)
    return float((running.infer(inputs).certainty >= calibration.threshold).mean())
