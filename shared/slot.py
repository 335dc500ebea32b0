"""The place of the model that serves one pipeline."""

from __future__ import annotations

import logging
from typing import Any

from numpy.typing import NDArray
from prometheus_client import Counter

from shared.attempts import Attempt, Attempts
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.releases.health import Health
from shared.scores import Scored

log = logging.getLogger(__name__)


class Slot:
    """Holds the model that serves a pipeline, and counts how it does.

    Args:
        pipeline: the pipeline.
        metrics: what is counted.

    Attributes:
        model: serves now; None until there is one. It changes only between two batches.
    """

    def __init__(self, pipeline: str, metrics: NodeMetrics) -> None:
        self.model: Model | None = None
        self.pipeline = pipeline
        self._metrics = metrics
        self._attempts = Attempts(pipeline)
        self._batches = 0
        self._broken_batches = 0
        self._counted_version: str | None = None
        self._counters: tuple[Counter, Counter]

    @property
    def health(self) -> Health:
        """What a probation looks at."""
        return Health(self._batches, self._broken_batches)

    def put(self, model: Model | None) -> None:
        """Lets a model serve from the next batch on; None lets samples wait for one."""
        self.model = model
        shown = None if model is None else (model.spec.name, model.spec.version)
        self._metrics.show_model(self.pipeline, shown)
        if model is not None:
            log.info("%s: version %s serves", self.pipeline, model.spec.version)
        else:
            log.info("%s waits for a release", self.pipeline)

    def attempt(self, model: Model, rows: NDArray[Any]) -> Attempt:
        """Runs a batch through the model that the caller took from here.

        On any thread, one batch at a time; whatever the model raises ends here.

        Args:
            model: what ``model`` was when the batch began.
            rows: raw, of the pipeline's dtype, [N, *shape].
        """
        return self._attempts.run(model, rows)

    def count(self, model: Model, tried: Attempt) -> Scored:
        """Counts a batch that went through a model. Only on the loop's thread.

        Returns:
            NaN where the scores are malformed, or where the model cannot run.
        """
        total = len(tried.scored.certainty)
        broken = tried.scored.broken
        self._batches += 1
        ok, invalid = self._counters_of(model.spec.version)
        ok.inc(total - broken)
        if broken:
            self._broken_batches += 1
            invalid.inc(broken)
            self._say(model, broken, tried.problem)
        return tried.scored

    def _say(self, model: Model, broken: int, problem: str) -> None:
        # After 1, 2, 4, 8, ... such batches: one that fails all the time must not fill the disk.
        if self._broken_batches.bit_count() == 1:
            log.error(
                "%s: version %s gave no sound scores for %d samples of a batch (%d such batches)%s",
                self.pipeline,
                model.spec.version,
                broken,
                self._broken_batches,
                f": {problem}" if problem else "",
            )

    def _counters_of(self, version: str) -> tuple[Counter, Counter]:
        # Looking a label up costs ten times as much as counting.
        if version != self._counted_version:
            count = self._metrics.inferences
            self._counted_version = version
            self._counters = (
                count.labels(model_version=version, status="ok"),
                count.labels(model_version=version, status="invalid_scores"),
            )
        return self._counters
