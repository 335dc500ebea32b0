"""A loaded model: the only module that runs ONNX Runtime on a node."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from shared.errors import ArtefactError
from shared.scores import Floats, ScoreKind, probabilities

WARM_UP_BATCHES = (1, 8)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Certificate:
    """What is promised of a threshold, and on what evidence.

    P(tier-1 disagrees with tier-2 | accepted) is at most ``alpha`` with confidence 1 - ``delta``,
    as long as the inputs come as they came for the ``n`` samples of the test.

    Attributes:
        alpha: bound on the risk, 0 to 1.
        delta: chance that the bound does not hold, 0 to 1.
        n: accepted samples in the test.
        disagreements: how many of them tier-2 answered otherwise.
        coverage: share of the samples that the threshold accepts, 0 to 1.
        bound: exact upper bound on the risk at this threshold, 0 to 1.
    """

    alpha: float
    delta: float
    n: int
    disagreements: int
    coverage: float
    bound: float


@dataclass(frozen=True)
class Calibration:
    """What turns a model's scores into decisions. It swaps together with the model.

    Attributes:
        temperature: divides the logits.
        threshold: tier-1 accepts from this confidence on; above 1 it accepts nothing.
        certificate: None where nothing is promised.
    """

    temperature: float
    threshold: float
    certificate: Certificate | None = None


@dataclass(frozen=True)
class ModelSpec:
    """What a model is, beside its bytes.

    Attributes:
        name: the channel that it came by, or its file's name.
        version: its version.
        sha256: digest of the file, in hex.
        labels: one for each output.
        scores: what the output holds.
        calibration: temperature and threshold.
    """

    name: str
    version: str
    sha256: str
    labels: tuple[str, ...]
    scores: ScoreKind
    calibration: Calibration


class Model:
    """An ONNX model in memory, ready to answer.

    Args:
        spec: what it is.
        session: ONNX Runtime's session.
    """

    def __init__(self, spec: ModelSpec, session: ort.InferenceSession) -> None:
        self.spec = spec
        self._session = session
        self._input_name = session.get_inputs()[0].name
        self._output_name = session.get_outputs()[0].name

    @classmethod
    def load(cls, path: Path, spec: ModelSpec, input_shape: tuple[int, ...]) -> Model:
        """Loads and warms up a model.

        Args:
            path: the ONNX file.
            spec: what it is.
            input_shape: of one sample, without the batch dimension.

        Raises:
            ArtefactError: it does not load, does not run, or does not fit shape or labels.
        """
        model = cls(spec, _open_session(path))
        for size in WARM_UP_BATCHES:
            model._check(model.scores(np.zeros((size, *input_shape), np.float32)), size)
        return model

    def scores(self, inputs: Floats) -> Floats:
        """Runs the model.

        Args:
            inputs: float32 [N, ...].

        Returns:
            float32 [N, labels], raw.

        Raises:
            ArtefactError: the model cannot run on it.
        """
        try:
            (output,) = self._session.run([self._output_name], {self._input_name: inputs})
        except Exception as error:
            # ONNX Runtime raises classes of its own C++ module that share no base but Exception.
            raise ArtefactError(f"{self.spec.name} cannot run: {error}") from error
        return np.asarray(output, np.float32)

    def probabilities(self, inputs: Floats) -> Floats:
        """Runs the model and calibrates.

        Args:
            inputs: float32 [N, ...].

        Returns:
            float32 [N, labels]; NaN in a row whose scores are malformed.

        Raises:
            ArtefactError: the model cannot run on it.
        """
        spec = self.spec
        return probabilities(self.scores(inputs), spec.scores, spec.calibration.temperature)

    def latency_ms(self, inputs: Floats, runs: int = 20) -> float:
        """Returns the median time of a call, in ms."""
        times = []
        for _ in range(runs):
            began = time.perf_counter()
            self.scores(inputs)
            times.append(time.perf_counter() - began)
        return float(np.median(times) * 1000)

    def _check(self, output: NDArray[Any], size: int) -> None:
        expected = (size, len(self.spec.labels))
        if output.shape != expected:
            raise ArtefactError(
                f"{self.spec.name} answers shape {output.shape}, not {expected}: "
                "do the labels fit the model?"
            )


def cpu_quota() -> int:
    """Returns how many threads are worth having: the CPU affinity or the container's quota.

    Source: cgroup v2, ``cpu.max`` ("$MAX $PERIOD" in µs, or "max").
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))
    except (OSError, ValueError):
        return cpus


def _open_session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = cpu_quota()
    options.inter_op_num_threads = 1
    log.info("ONNX Runtime runs %s with %d threads", path.name[:16], options.intra_op_num_threads)
    options.log_severity_level = 3
    # A spinning pool would take a whole core from the loop beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # See ``Model.scores``: there is no narrower class to catch.
        raise ArtefactError(f"{path} does not load: {error}") from error
