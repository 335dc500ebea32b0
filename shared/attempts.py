"""Batches through a model, and what becomes of one that it cannot run. On any thread."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import ArtefactError
from shared.model import Model
from shared.model_spec import ModelSpec
from shared.scores import Scored

CALLS_A_HALVING = 4
"""Any two rows of a batch that cannot be run are found by so many calls for each halving."""
REST_BATCHES = 64
"""A model that does not run at all is looked at anew after so many batches."""

log = logging.getLogger(__name__)


class Attempt(NamedTuple):
    """What came of a batch.

    Attributes:
        scored: NaN where the scores are malformed, or where the model cannot run.
        problem: why it cannot; empty if it can.
    """

    scored: Scored
    problem: str = ""


class Attempts:
    """Runs batches, one at a time. Whatever a model raises ends here, as malformed scores.

    A row that a model cannot take (an index out of range) must not spoil its neighbours: a batch
    that fails is halved, and halved again, until such a row is alone. Nor may rows like it hold up
    what waits behind them: the calls are bounded by the logarithm of the batch's size, and what has
    not run by then is malformed. Of a model that cannot even run the zeros that it ran when it was
    loaded nothing is halved.

    Args:
        pipeline: the pipeline.
    """

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._spec: ModelSpec | None = None
        self._rest = 0
        self._has_told = False

    def run(self, model: Model, rows: NDArray[Any]) -> Attempt:
        """Runs a batch.

        Args:
            model: the model.
            rows: raw, of the pipeline's dtype, [N, *shape].
        """
        if model.spec is not self._spec:
            self._spec, self._rest, self._has_told = model.spec, 0, False
        result = self._infer(model, rows)
        if isinstance(result, Scored):
            self._rest = 0
            return Attempt(result)
        if len(rows) > 1 and self._runs(model, rows):
            return Attempt(self._run_halves(model, rows), result)
        return Attempt(Scored.malformed(len(rows), len(model.spec.labels)), result)

    def _runs(self, model: Model, rows: NDArray[Any]) -> bool:
        """Whether the model runs at all, so that it is for single rows that the batch failed."""
        if self._rest:
            self._rest -= 1
            return False
        runs = isinstance(self._infer(model, np.zeros_like(rows[:1])), Scored)
        self._rest = 0 if runs else REST_BATCHES
        return runs

    def _run_halves(self, model: Model, rows: NDArray[Any]) -> Scored:
        """Runs the halves of a batch that failed, and the halves of those that fail again."""
        scored = Scored.malformed(len(rows), len(model.spec.labels))
        parts = deque(_halves(0, len(rows)))
        for _ in range(CALLS_A_HALVING * (len(rows) - 1).bit_length()):
            if not parts:
                break
            start, stop = parts.popleft()
            result = self._infer(model, rows[start:stop])
            if isinstance(result, Scored):
                scored.probabilities[start:stop] = result.probabilities
                scored.certainty[start:stop] = result.certainty
            elif stop - start > 1:
                parts.extend(_halves(start, stop))
        return Scored.of(scored.probabilities, scored.certainty)

    def _infer(self, model: Model, rows: NDArray[Any]) -> Scored | str:
        """Returns the scores, or else why there are none."""
        try:
            return model.infer(rows)
        except ArtefactError as error:
            return str(error)
        except Exception as error:
            # The boundary around a model: the node must outlive whatever one does.
            if not self._has_told:
                self._has_told = True
                log.exception("%s: version %s failed", self._pipeline, model.spec.version)
            return f"{type(error).__name__}: {error}"


def _halves(start: int, stop: int) -> Iterator[tuple[int, int]]:
    middle = (start + stop) // 2
    yield start, middle
    yield middle, stop
