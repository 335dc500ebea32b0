"""Tries one model on this machine: what it holds, whether it answers rightly, and what it costs."""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import ArtefactError, EscalonError, SmokeError
from shared.inputs import Inputs, InputSpec
from shared.messages import Tensor
from shared.model import DEFAULT_BATCH_SIZE, Model
from shared.model_spec import ModelSpec
from shared.releases.memory import peak_bytes, reset_peak
from shared.releases.structure import check_structure
from shared.scores import Floats

MAX_REASON_CHARACTERS = 500
MIN_RUNS, MAX_RUNS, RUNS_MS = 3, 200, 1000.0

Precision = Literal["int8", "fp32"]


@dataclass(frozen=True)
class Trial:
    """A model to try.

    Attributes:
        spec: what it is.
        path: its file.
        input_shape: of one sample's row.
        golden_inputs: of the rows' dtype, [N, *input_shape].
        golden_scores: float32 [N, labels], raw; None for a model that is only measured, such as
            the one that runs.
        tolerance: largest difference allowed to a golden score.
        precision: of the weights.
        inputs: how a row is laid out; empty for one float32 input of ``input_shape``.
        batch_size: samples that it may be asked at once.
    """

    spec: ModelSpec
    path: Path
    input_shape: tuple[int, ...]
    golden_inputs: Tensor
    golden_scores: Tensor | None
    tolerance: float
    precision: Precision = "fp32"
    inputs: tuple[InputSpec, ...] = ()
    batch_size: int = DEFAULT_BATCH_SIZE

    def layout(self) -> Inputs:
        """Returns how a row is laid out."""
        return Inputs(self.inputs) if self.inputs else Inputs.plain(self.input_shape)


class TrialResult(msgspec.Struct, frozen=True):
    """What came of a trial.

    Attributes:
        sha256: digest of the model's file, in hex.
        precision: of its weights.
        passed: whether it may serve, as far as this machine can tell.
        reason: why it may not; empty if it may.
        difference: largest difference to a golden score.
        latency_ms: processor time of one sample on one thread, the median of several runs.
        memory_bytes: growth of the process's physical memory by loading and running it, at most.
        network_isolated: whether it was tried where no network can be reached.
    """

    sha256: str
    precision: Precision
    passed: bool
    reason: str = ""
    difference: float = 0.0
    latency_ms: float = 0.0
    memory_bytes: int = 0
    network_isolated: bool = False


def encode(trial: Trial) -> bytes:
    """Returns a trial as the child reads it."""
    return msgspec.msgpack.encode(trial, enc_hook=str)


def run(path: Path, network_isolated: bool) -> str:
    """Tries a model in this process; it may well end it.

    Args:
        path: file of an encoded trial.
        network_isolated: whether this process can reach no network.

    Returns:
        The ``TrialResult`` as one line of JSON.
    """
    trial = msgspec.msgpack.decode(
        path.read_bytes(), type=Trial, dec_hook=lambda kind, value: kind(value)
    )
    try:
        result = _measured(trial)
    except EscalonError as error:
        result = failed(trial, str(error))
    except MemoryError as error:
        result = failed(trial, f"it takes more memory than a trial may: {error}")
    result = msgspec.structs.replace(result, network_isolated=network_isolated)
    return msgspec.json.encode(result).decode()


def failed(trial: Trial, reason: str) -> TrialResult:
    """Returns the result of a trial that went wrong."""
    return TrialResult(trial.spec.sha256, trial.precision, False, reason[:MAX_REASON_CHARACTERS])


def _measured(trial: Trial) -> TrialResult:
    _check_file(trial.path)
    rows = trial.golden_inputs.array()
    if not len(rows):
        raise SmokeError("there is no golden input to ask it")
    reset_peak()
    before_bytes = peak_bytes()
    model = Model.load(trial.path, trial.spec, trial.layout(), trial.batch_size, threads=1)
    difference = _difference(trial, model.scores(rows))
    latency_ms = _latency_ms(model, rows[:1])
    memory_bytes = max(0, peak_bytes() - before_bytes)
    result = TrialResult(trial.spec.sha256, trial.precision, True)
    return msgspec.structs.replace(
        result, difference=difference, latency_ms=latency_ms, memory_bytes=memory_bytes
    )


def _check_file(path: Path) -> None:
    """Looks at a file before the runtime does. It is mapped, so that what is skipped is not read.

    Raises:
        ArtefactError: it must not be loaded.
    """
    try:
        with path.open("rb") as file:
            empty = not os.fstat(file.fileno()).st_size
            view = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        check_structure(memoryview(view))
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}") from error
    except ArtefactError as error:
        raise ArtefactError(f"this node does not load it: {error}") from error


def _difference(trial: Trial, scores: Floats) -> float:
    """Returns the largest difference to a golden score, 0 where there is none.

    Raises:
        SmokeError: it is too large, or the answer of another kind.
    """
    if trial.golden_scores is None:
        return 0.0
    golden = trial.golden_scores.array()
    if scores.shape != golden.shape:
        raise SmokeError(
            f"it answers scores of shape {list(scores.shape)}, "
            f"the golden ones are of shape {list(golden.shape)}"
        )
    if not np.isfinite(scores).all():
        raise SmokeError("the model answers NaN or infinity to a golden input")
    difference = float(np.abs(scores - golden).max())
    if not difference <= trial.tolerance:
        raise SmokeError(
            f"a score differs by {difference:.4g} from the golden one, "
            f"more than {trial.tolerance:.4g}"
        )
    return difference


def _latency_ms(model: Model, one: NDArray[Any]) -> float:
    """Returns the median processor time of one sample, in ms.

    By the clock on the wall, a busy node would make every model look slow. The clock of the thread,
    which runs the model alone: under a limit of CPU time, Linux tells the process's only in ticks.
    """
    times_ms: list[float] = []
    while len(times_ms) < MIN_RUNS or (len(times_ms) < MAX_RUNS and sum(times_ms) < RUNS_MS):
        began_s = time.thread_time()
        model.scores(one)
        times_ms.append((time.thread_time() - began_s) * 1000)
    return float(np.median(times_ms))
