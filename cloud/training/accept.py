"""Takes a trainer's model, if it is one that may be looked at further."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import onnx

from cloud.training.contract import MODEL, Job
from cloud.training.export import INPUT, OUTPUT
from shared.durable import move_durably, write_durably
from shared.errors import ArtefactError
from shared.inputs import Inputs
from shared.model import Model
from shared.model_spec import Calibration, ModelSpec
from shared.releases.structure import check_structure
from shared.scores import Floats


def accept(folder: Path, target: Path, job: Job, samples: Floats, most_bytes: int) -> Model:
    """Copies the model out of a trainer's folder, once it has passed, and returns it loaded.

    Its bytes are looked at before ONNX Runtime sees them, and are read once: what was looked at is
    what is used, whatever else writes to that folder.

    Args:
        folder: the trainer's.
        target: where the copy goes.
        job: what the model is for.
        samples: float32 [N, ...]; it must answer all of them with finite logits.
        most_bytes: that it may have.

    Raises:
        ArtefactError: there is none, or not one that may be used; the reason says which.
        StorageError: the disk does not take the copy.
    """
    data = _read(folder / MODEL, most_bytes)
    try:
        check_structure(data)
    except ArtefactError as error:
        raise ArtefactError(f"the model of {job.tier} must not be loaded: {error}") from error
    _check_ports(data, job)
    looked_at = target.with_name(f"{target.name}.tmp")
    write_durably(looked_at, data)
    model = load(looked_at, job.labels, job.input_shape)
    logits = model.scores(samples)
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits)).any(axis=1).sum())
        raise ArtefactError(
            f"the model of {job.tier} answers {bad} of {len(samples)} samples with logits that are "
            "no numbers: look at its weights"
        )
    move_durably(looked_at, target)
    return model


def load(
    path: Path,
    labels: tuple[str, ...],
    shape: tuple[int, ...],
    calibration: Calibration | None = None,
) -> Model:
    """Loads a model that gives logits.

    Raises:
        ArtefactError: it does not load, does not run, or does not fit.
    """
    calibration = calibration or Calibration(1.0, 0.0)
    spec = ModelSpec(path.stem, "candidate", "", labels, "logits", calibration)
    # In one thread: the other cores are those of whoever answers samples on this machine.
    return Model.load(path, spec, Inputs.plain(shape), threads=1)


def _check_ports(data: bytes, job: Job) -> None:
    graph = onnx.load_model_from_string(data).graph
    constants = {each.name for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    found = [each.name for each in inputs], [each.name for each in graph.output]
    if found[0] != [INPUT] or OUTPUT not in found[1]:
        raise ArtefactError(
            f"the model of {job.tier} has inputs {', '.join(found[0])} and outputs "
            f"{', '.join(found[1])}. Fix: name its one input `{INPUT}` and its output `{OUTPUT}`"
        )
    dimensions = inputs[0].type.tensor_type.shape.dim
    if dimensions and dimensions[0].HasField("dim_value"):
        raise ArtefactError(
            f"the model of {job.tier} takes batches of {dimensions[0].dim_value} only. "
            "Fix: export it with a free batch dimension"
        )


def _read(path: Path, most_bytes: int) -> bytes:
    """Returns the bytes of a plain file; a link or a pipe in its place is not followed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise ArtefactError(f"the trainer left no {path.name}") from error
    except OSError as error:
        reason = f"the trainer's {path.name} cannot be read: {error.strerror}"
        raise ArtefactError(reason) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise ArtefactError(f"the trainer's {path.name} is no file")
    with os.fdopen(descriptor, "rb") as file:
        if found.st_size > most_bytes:
            raise ArtefactError(
                f"the trainer's {path.name} has {found.st_size:,} bytes, more than training."
                f"model_bytes: {most_bytes:,}"
            )
        return file.read(most_bytes)
