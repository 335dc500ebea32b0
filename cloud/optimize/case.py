"""What is optimised, as the children read it: the model, how it is asked, and its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.inputs import Inputs, InputSpec
from shared.model import Model
from shared.model_spec import Calibration, ModelSpec
from shared.scores import ScoreKind

BATCH = 32
"""The batch that is measured beside a single sample."""


class Case(msgspec.Struct, frozen=True):
    """A model, and how it is asked.

    Attributes:
        model: its file.
        inputs: how a row is laid out.
        scores: what its output holds.
        labels: how many scores it gives to a sample.
    """

    model: Path
    inputs: tuple[InputSpec, ...]
    scores: ScoreKind
    labels: int

    def layout(self) -> Inputs:
        """Returns how a row is laid out."""
        return Inputs(self.inputs)

    def load(self, path: Path) -> Model:
        """Loads the model or a candidate of it, as a node would, on one thread.

        Raises:
            ArtefactError: it does not load or does not fit.
        """
        # Names that no file brings: a file's own need not be those that the answers are held to.
        names = tuple(f"label {number}" for number in range(self.labels))
        spec = ModelSpec(path.stem, "candidate", "", names, self.scores, Calibration(1.0, 0.0))
        return Model.load(path, spec, self.layout(), BATCH, threads=1)


def read_rows(path: Path) -> NDArray[Any]:
    """Returns rows that were written by ``write_rows``."""
    return np.asarray(np.load(path, allow_pickle=False))


def write_rows(path: Path, rows: NDArray[Any]) -> Path:
    """Writes rows; returns the file."""
    np.save(path, rows, allow_pickle=False)
    return path


Job = TypeVar("Job", bound=msgspec.Struct)


def encode(job: msgspec.Struct) -> bytes:
    """Returns a job as a child reads it."""
    return msgspec.msgpack.encode(job, enc_hook=str)


def decode(data: bytes, kind: type[Job]) -> Job:
    """Returns the job that a child is given."""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=lambda kind, value: kind(value))
