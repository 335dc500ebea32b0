"""A loaded model: the only module that runs ONNX Runtime on a node."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from shared.errors import ArtefactError
from shared.inputs import Inputs
from shared.model_feed import Feed, Port
from shared.model_head import Head, choose_head, label_output
from shared.model_labels import labels_in_graph, labels_in_metadata, problem_with
from shared.model_spec import ModelSpec
from shared.scores import Floats, Scored, score, well_formed

DEFAULT_BATCH_SIZE = 64
MAX_WARM_UP_BYTES = 2**26
WARM_UP_RUNS = 5
WARM_UP_MS = 250.0

RUNTIME_VERSION: str = ort.__version__

log = logging.getLogger(__name__)


class Model:
    """An ONNX model in memory, ready to answer.

    Args:
        spec: what it is.
        session: ONNX Runtime's session.
        inputs: how a pipeline's rows are laid out.
        batch_size: so many samples it runs at once.

    Attributes:
        spec: what it is; with its labels once it is loaded.
        batch_size: so many samples it runs at once.
        batch_ms: median time of a full batch, as it was at the load, in ms.

    Raises:
        ArtefactError: its inputs or outputs do not fit.
    """

    def __init__(
        self, spec: ModelSpec, session: ort.InferenceSession, inputs: Inputs, batch_size: int
    ) -> None:
        self.spec = spec
        self.batch_size = batch_size
        self.batch_ms = 0.0
        self._session = session
        self._inputs = inputs
        self._feed = Feed(_ports(session.get_inputs()), inputs)
        outputs = _ports(session.get_outputs())
        self._head: Head = choose_head(outputs, spec.output, spec.scores, len(spec.labels))

    @classmethod
    def load(
        cls,
        path: Path,
        spec: ModelSpec,
        inputs: Inputs,
        batch_size: int = DEFAULT_BATCH_SIZE,
        threads: int | None = None,
    ) -> Model:
        """Loads and warms up a model.

        Args:
            path: the ONNX file.
            spec: what it is; without labels, those of the file are taken.
            inputs: how a pipeline's rows are laid out.
            batch_size: largest batch that it runs at once; more samples take several calls.
            threads: that it may run; None for all that are worth having, ``cpu_quota``.

        Raises:
            ArtefactError: it does not load, does not run, or does not fit inputs or labels.
        """
        session = _open_session(path, cpu_quota() if threads is None else threads)
        try:
            model = cls(spec, session, inputs, batch_size)
            model._settle_labels(path)
            model._warm_up(batch_size)
        except ArtefactError as error:
            raise ArtefactError(f"{path}, the model of {spec.name}: {error}") from error
        return model

    def infer(self, rows: NDArray[Any]) -> Scored:
        """Runs the model and calibrates.

        Args:
            rows: raw, of the pipeline's dtype, [N, *shape].

        Raises:
            ArtefactError: the model cannot run on it.
        """
        calibration = self.spec.calibration
        return score(
            self.scores(rows), self.spec.scores, calibration.temperature, calibration.score
        )

    def scores(self, rows: NDArray[Any]) -> Floats:
        """Runs the model.

        Args:
            rows: raw, of the pipeline's dtype, [N, *shape].

        Returns:
            float32 [N, labels], as the model gives them.

        Raises:
            ArtefactError: the model cannot run on it.
        """
        size = self._feed.batch_size
        if size is not None:
            return _in_batches_of(size, rows, self._run)
        if len(rows) <= self.batch_size:
            return self._run(rows)
        starts = range(0, len(rows), self.batch_size)
        return np.concatenate([self._run(rows[at : at + self.batch_size]) for at in starts])

    def expected_ms(self, count: int) -> float:
        """Returns how long so many samples are likely to take."""
        return self.batch_ms * max(1.0, count / self.batch_size)

    def probabilities(self, rows: NDArray[Any]) -> Floats:
        """Runs the model and returns its calibrated probabilities alone, as ``infer`` does."""
        return self.infer(rows).probabilities

    def latency_ms(self, rows: NDArray[Any], runs: int = 20) -> float:
        """Returns the median time of a call, in ms."""
        return self._median_ms(rows, runs, math.inf)

    def _run(self, rows: NDArray[Any]) -> Floats:
        try:
            result = self._head.rows(self._output(rows))
        except ValueError as error:
            raise ArtefactError(f"its output holds no scores: {error}") from error
        expected = (len(rows), len(self.spec.labels))
        if result.shape != expected:
            raise ArtefactError(
                f"it answers {list(result.shape)} scores where {list(expected)} are expected: "
                "do the labels fit the model?"
            )
        return result

    def _output(self, rows: NDArray[Any]) -> Any:
        try:
            (output,) = self._session.run([self._head.name], self._feed(rows))
        except Exception as error:
            # ONNX Runtime raises classes of its own C++ module that share no base but Exception.
            raise ArtefactError(f"it cannot run: {error}") from error
        return output

    def _settle_labels(self, path: Path) -> None:
        """Takes the labels of the file, or holds the given ones against them."""
        given, brought = self.spec.labels, self._labels_of_file(path)
        if given and sorted(given) == sorted(brought) and given != brought:
            raise ArtefactError(
                f"its labels are, in this order, {', '.join(brought):.200}. "
                "Fix: leave out `labels:`, or write them in this order"
            )
        if not given and not brought:
            raise ArtefactError("it brings no labels. Fix: write `labels:`, in the model's order")
        problem = problem_with(given or brought)
        if problem:
            raise ArtefactError(problem)
        self.spec = replace(self.spec, labels=given or brought)

    def _labels_of_file(self, path: Path) -> tuple[str, ...]:
        found = self._head.labels(self._output(self._zeros(self._feed.batch_size or 1)))
        found = found or labels_in_metadata(self._session.get_modelmeta().custom_metadata_map)
        predicted = label_output(_ports(self._session.get_outputs()))
        if found or predicted is None:
            return found
        try:
            return labels_in_graph(path.read_bytes(), predicted)
        except (OSError, ArtefactError) as error:
            log.warning("%s: cannot look for labels in %s: %s", self.spec.name, path, error)
            return ()

    def _warm_up(self, batch_size: int) -> None:
        if self._feed.batch_size is not None:
            log.info("%s: it takes batches of %d only", self.spec.name, self._feed.batch_size)
        one = self._zeros(1)
        self._warn_of_logits(self.scores(one))
        single_ms = self._median_ms(one, 1)
        # A large batch of a slow model would delay the start by minutes: a part of it tells enough.
        affordable = max(2, int(WARM_UP_MS / max(single_ms, 1e-3)))
        rows = self._zeros(min(batch_size, affordable))
        try:
            self.scores(rows)
        except ArtefactError as error:
            raise ArtefactError(
                f"{error}. It takes one sample, but not {len(rows)}. "
                "Fix: export it with a free batch dimension"
            ) from error
        self.batch_ms = self._median_ms(rows, WARM_UP_RUNS) * batch_size / len(rows)

    def _warn_of_logits(self, scores: Floats) -> None:
        if self.spec.scores == "logits" or not np.isfinite(scores).all():
            return
        if not well_formed(scores).all():
            log.warning(
                "%s: scores such as %s are no probabilities; does the model give logits? "
                "Then write `scores: logits`",
                self.spec.name,
                scores[0, :3].tolist(),
            )

    def _zeros(self, count: int) -> NDArray[Any]:
        inputs = self._inputs
        most = max(1, MAX_WARM_UP_BYTES // (inputs.size * inputs.dtype.itemsize))
        return np.zeros((min(count, most), *inputs.shape), inputs.dtype)

    def _median_ms(self, rows: NDArray[Any], runs: int, within_ms: float = WARM_UP_MS) -> float:
        times_ms: list[float] = []
        while len(times_ms) < runs and sum(times_ms) <= within_ms:
            began_s = time.perf_counter()
            self.scores(rows)
            times_ms.append((time.perf_counter() - began_s) * 1000)
        return float(np.median(times_ms))


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


def _in_batches_of(size: int, rows: NDArray[Any], run: Callable[[NDArray[Any]], Floats]) -> Floats:
    """Runs rows through a model that takes batches of one size; the last one is filled up."""
    missing = -len(rows) % size
    filled = np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])
    results = [run(filled[start : start + size]) for start in range(0, len(filled), size)]
    return np.concatenate(results)[: len(rows)]


def _ports(arguments: Sequence[Any]) -> list[Port]:
    return [Port(each.name, each.type, tuple(each.shape)) for each in arguments]


def _open_session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    log.info("ONNX Runtime runs %s with %d threads", path.name[:16], options.intra_op_num_threads)
    options.log_severity_level = 3
    # A spinning pool would take a whole core from the loop beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # See ``Model._output``: there is no narrower class to catch.
        raise ArtefactError(f"{path} does not load: {error}") from error
