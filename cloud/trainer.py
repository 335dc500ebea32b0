"""The trainer: a job folder in, a candidate folder out, in a process of its own.

``python -m cloud.trainer FOLDER`` reads ``FOLDER/job.json`` and writes ``FOLDER/candidate/``, whole
or not at all. A folder that holds the candidate of the same job already is left as it is, so that a
job that was killed may simply be started again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud.certificate.calibration import calibrate
from cloud.certificate.promise import Promise
from cloud.certificate.temperature import fit_temperature
from cloud.export import to_onnx
from cloud.optimize.quantize import quantize_int8
from cloud.training import Inputs, Mlp, distill, noisy_copies, train_full
from shared.durable import write_durably
from shared.errors import EscalonError, StorageError
from shared.inputs import Inputs as ModelInputs
from shared.messages import UNREADABLE, Public
from shared.model import Model
from shared.model_spec import Calibration, ModelSpec
from shared.npz import as_numbers, read_npz
from shared.scores import Floats

RECIPE = 2
"""Raise it when a change here makes candidates that were cached before out of date."""

NOISY_COPIES = 2
TUNING_SHARE = 0.25
AUDITS_TAUGHT_SHARE = 1 / 3
GOLDEN_SAMPLES = 8
SMALLEST_PROBABILITY = 1e-30
NICENESS = 5  # whoever answers samples on the same machine goes first

Labels = NDArray[np.int64]


class Job(Public, frozen=True):
    """What to train.

    Attributes:
        pipeline: the pipeline.
        seed: decides all randomness.
        labels: one for each output.
        input_maximum: largest value of an input; the smallest is 0.
        image_shape: (height, width) where inputs are images.
        base: folder with ``train.npz`` (x, y) and ``calibration.npz`` (x, y).
        promise: what the threshold must hold.
        telemetry: ``telemetry.npz`` (x, tier2, audit) in this folder; None trains from scratch.
        teacher: tier-2's ONNX file; None trains one.
        teacher_temperature: what its logits in the telemetry were divided by.
        running: the tier-1 model that serves now, and its calibration, to compare with.
    """

    pipeline: str
    seed: int
    labels: tuple[str, ...]
    input_maximum: float
    image_shape: tuple[int, int] | None
    base: str
    promise: Promise
    telemetry: str | None = None
    teacher: str | None = None
    teacher_temperature: float = 1.0
    running: str | None = None
    running_calibration: Calibration | None = None


class Report(Public, frozen=True):
    """What came of a job.

    Attributes:
        fingerprint: of the job and its data.
        calibration: of tier-1, on its int8 artefact.
        fp32_calibration: of the same model before quantization, on its fp32 artefact. A certificate
            holds for the artefact that it was made on, with the job's confidence each.
        tier2_calibration: of tier-2, if it was trained.
        int8_bytes: size of the int8 artefact.
        fp32_bytes: size of the fp32 artefact.
        int8_agreement: share of held-out inputs that int8 answers like tier-2, 0 to 1.
        fp32_agreement: the same before quantization.
        running_coverage: share of the certifying inputs that the running release accepts; None
            where there is none.
        samples: inputs that tier-1 learned from.
        seconds: how long it took.
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


class Lesson(msgspec.Struct, frozen=True):
    """What tier-1 learns from and is tested on.

    Attributes:
        inputs: float32 [N, features].
        logits: tier-2's, float [N, labels], up to a constant for each sample.
        held_out: float32 [M, features], a uniform sample of the traffic.
        held_out_labels: tier-2's, int64 [M].
    """

    inputs: Floats
    logits: Floats
    held_out: Floats
    held_out_labels: Labels


def train(folder: Path) -> Report:
    """Runs the job in a folder, one process at a time.

    The trainer of a cloud that was killed may still be at it: then this one waits, and finds its
    candidate.

    Raises:
        StorageError: job or data cannot be read.
        ArtefactError: what was trained does not run.
    """
    job, fingerprint = _read(folder)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _train_alone(job, fingerprint, folder)


def _train_alone(job: Job, fingerprint: str, folder: Path) -> Report:
    candidate = folder / "candidate"
    done = read_report(candidate)
    if done is not None and done.fingerprint == fingerprint:
        return done
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    report = _train(job, fingerprint, folder, work)
    write_durably(work / "report.json", msgspec.json.encode(report))
    shutil.rmtree(candidate, ignore_errors=True)
    work.rename(candidate)
    return report


def read_report(candidate: Path) -> Report | None:
    """Returns the report in a candidate folder, or None if there is no whole candidate."""
    try:
        return msgspec.json.decode((candidate / "report.json").read_bytes(), type=Report)
    except (OSError, *UNREADABLE):
        return None


def _train(job: Job, fingerprint: str, folder: Path, work: Path) -> Report:
    began = time.monotonic()
    rng = np.random.default_rng(job.seed)
    kind = Inputs(job.input_maximum, job.image_shape)
    base, labels = _load(Path(job.base) / "train.npz")
    teacher_path = Path(job.teacher) if job.teacher else work / "tier2.onnx"
    if job.teacher is None:
        write_durably(teacher_path, to_onnx(train_full(base, labels, kind, job.seed), "tier2"))
    teacher = _open(teacher_path, job, base.shape[1:])
    if job.telemetry is None:
        lesson = _first_lesson(job, base, kind, teacher, rng)
    else:
        lesson = _lesson_from_telemetry(folder / job.telemetry, job, base, teacher)
    student = distill(lesson.logits, lesson.inputs, kind, job.seed)
    models = _deploy(student, lesson, job, work)
    int8, fp32 = (model.scores(lesson.held_out) for model in models)
    tuning = int(TUNING_SHARE * len(lesson.held_out))
    _write_golden(work / "golden.npz", lesson.held_out[:GOLDEN_SAMPLES], *models, teacher)
    return Report(
        fingerprint=fingerprint,
        calibration=calibrate(int8, lesson.held_out_labels, tuning, job.promise),
        fp32_calibration=calibrate(fp32, lesson.held_out_labels, tuning, job.promise),
        tier2_calibration=None if job.teacher else _calibrate_tier2(job, teacher),
        int8_bytes=(work / "tier1.onnx").stat().st_size,
        fp32_bytes=(work / "tier1.fp32.onnx").stat().st_size,
        int8_agreement=_agreement(int8, lesson),
        fp32_agreement=_agreement(fp32, lesson),
        running_coverage=_running_coverage(job, lesson, tuning),
        samples=len(lesson.inputs),
        seconds=round(time.monotonic() - began, 3),
    )


def _first_lesson(
    job: Job, base: Floats, kind: Inputs, teacher: Model, rng: np.random.Generator
) -> Lesson:
    inputs = noisy_copies(base, NOISY_COPIES, kind, rng)
    held_out, _ = _load(Path(job.base) / "calibration.npz")
    return Lesson(inputs, teacher.scores(inputs), held_out, teacher.scores(held_out).argmax(axis=1))


def _lesson_from_telemetry(path: Path, job: Job, base: Floats, teacher: Model) -> Lesson:
    """Learns from what tier-1 escalated, a part of the audit, and the base; the rest tests.

    Escalations alone never show what the old model gets wrong with confidence; the audit does.
    """
    data = read_npz(path, "x", "tier2", "audit")
    inputs, tier2, audit = data["x"], data["tier2"], data["audit"]
    # A softmax forgets only a constant for each sample, and distillation centres the logits.
    logits = job.teacher_temperature * np.log(np.maximum(tier2, SMALLEST_PROBABILITY))
    audits = np.flatnonzero(audit)
    taught_audits, tested = np.split(audits, [int(len(audits) * AUDITS_TAUGHT_SHARE)])
    taught = np.concatenate([np.flatnonzero(~audit), taught_audits])
    return Lesson(
        np.concatenate([inputs[taught], base]),
        np.concatenate([logits[taught], teacher.scores(base)]),
        inputs[tested],
        tier2[tested].argmax(axis=1),
    )


def _deploy(student: Mlp, lesson: Lesson, job: Job, work: Path) -> tuple[Model, Model]:
    """Writes the student as int8 and fp32, and loads both."""
    fp32 = to_onnx(student, "tier1")
    write_durably(work / "tier1.fp32.onnx", fp32)
    write_durably(work / "tier1.onnx", quantize_int8(fp32, lesson.inputs))
    shape = lesson.inputs.shape[1:]
    return _open(work / "tier1.onnx", job, shape), _open(work / "tier1.fp32.onnx", job, shape)


def _calibrate_tier2(job: Job, teacher: Model) -> Calibration:
    """Fits tier-2's temperature on true labels; it has nobody to escalate to."""
    inputs, labels = _load(Path(job.base) / "calibration.npz")
    return Calibration(fit_temperature(teacher.scores(inputs), labels), 0.0)


def _agreement(scores: Floats, lesson: Lesson) -> float:
    return float((scores.argmax(axis=1) == lesson.held_out_labels).mean())


def _running_coverage(job: Job, lesson: Lesson, tuning: int) -> float | None:
    if job.running is None or job.running_calibration is None:
        return None
    running = _open(Path(job.running), job, lesson.held_out.shape[1:], job.running_calibration)
    certainty = running.infer(lesson.held_out[tuning:]).certainty
    return float((certainty >= job.running_calibration.threshold).mean())


def _write_golden(path: Path, inputs: Floats, int8: Model, fp32: Model, full: Model) -> None:
    np.savez(
        path,
        inputs=inputs,
        tier1=int8.scores(inputs),
        tier1_fp32=fp32.scores(inputs),
        tier2=full.scores(inputs),
    )


def _open(
    path: Path, job: Job, shape: tuple[int, ...], calibration: Calibration | None = None
) -> Model:
    calibration = calibration or Calibration(1.0, 0.0)
    spec = ModelSpec(path.stem, "candidate", "", job.labels, "logits", calibration)
    return Model.load(path, spec, ModelInputs.plain(shape))


def _load(path: Path) -> tuple[Floats, Labels]:
    """Returns inputs and labels of a data file."""
    data = read_npz(path, "x", "y")
    return as_numbers(data["x"], np.float32, path), as_numbers(data["y"], np.int64, path)


def _read(folder: Path) -> tuple[Job, str]:
    """Returns the job and the digest of everything that it depends on."""
    try:
        raw = (folder / "job.json").read_bytes()
        job = msgspec.json.decode(raw, type=Job)
        files = [Path(job.base) / name for name in ("train.npz", "calibration.npz")]
        files += [folder / job.telemetry] if job.telemetry else []
        digest = hashlib.sha256(f"recipe {RECIPE}\n".encode() + raw)
        for path in files:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    except (OSError, *UNREADABLE) as error:
        raise StorageError(f"cannot read the job in {folder}: {error}") from error
    return job, digest.hexdigest()


def main(arguments: list[str]) -> int:
    """Entry of the process: FOLDER. Returns 0, or 1 with the reason on standard error."""
    os.nice(NICENESS)
    try:
        train(Path(arguments[0]))
    except EscalonError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
