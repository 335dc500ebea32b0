"""The place of the model that serves one pipeline."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from prometheus_client import Counter

from shared.attempts import Attempt, Attempts
from shared.certificate import NOTHING_FOUND, Finding, describe
from shared.messages import ModelInfo
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.model_spec import ModelSpec
from shared.releases.health import Counts, Health
from shared.scores import Scored

if TYPE_CHECKING:
    from shared.releases.manifest import Void

log = logging.getLogger(__name__)


class Slot:
    """Holds the model that serves a pipeline, and counts how it does.

    Args:
        pipeline: the pipeline.
        metrics: what is counted.

    Attributes:
        model: serves now; None until there is one. It changes only between two batches.
        info: what the node says of it; None until there is one.
        changes: how often that has changed.
    """

    def __init__(self, pipeline: str, metrics: NodeMetrics) -> None:
        self.model: Model | None = None
        self.info: ModelInfo | None = None
        self.changes = 0
        self.pipeline = pipeline
        self._finding = NOTHING_FOUND
        self._void: Void | None = None
        self._metrics = metrics
        self._attempts = Attempts(pipeline)
        self._counts = Counts()
        self._took_s = 0.0
        self._broken_batches = 0
        self._counted_version: str | None = None
        self._counters: tuple[Counter, Counter]

    @property
    def health(self) -> Health:
        """What a probation looks at, as it is now."""
        return self._counts.snapshot()

    def put(self, model: Model | None) -> None:
        """Lets a model serve from the next batch on; None lets samples wait for one."""
        self.model = model
        shown = None if model is None else (model.spec.name, model.spec.version)
        self._metrics.show_model(self.pipeline, shown)
        if model is not None:
            log.info("%s: version %s serves", self.pipeline, model.spec.version)
        else:
            log.info("%s waits for a release", self.pipeline)
        self._finding, self._void = NOTHING_FOUND, None
        self._describe()

    def mark(self, void: Void | None) -> None:
        """Notes what the newest manifest says of the certificates of the model's release."""
        if void != self._void:
            self._void = void
            self._describe()

    def find(self, finding: Finding) -> None:
        """Notes what this node has found out about the certificate of the model."""
        if finding != self._finding:
            self._finding = finding
            self._describe()

    def attempt(self, model: Model, rows: NDArray[Any]) -> Attempt:
        """Runs a batch through the model that the caller took from here.

        On any thread, one batch at a time; whatever the model raises ends here.

        Args:
            model: what ``model`` was when the batch began.
            rows: raw, of the pipeline's dtype, [N, *shape].
        """
        self._counts.begun += 1
        began_s = time.perf_counter()
        tried = self._attempts.run(model, rows)
        self._took_s = time.perf_counter() - began_s
        return tried

    def count(self, model: Model, tried: Attempt) -> Scored:
        """Counts a batch that went through a model. Only on the loop's thread.

        Returns:
            NaN where the scores are malformed, or where the model cannot run.
        """
        total = len(tried.scored.certainty)
        broken = tried.scored.broken
        self._counts.ended += 1
        if model is self.model:
            self._counts.batch(total, broken, self._took_s, failed=bool(tried.problem))
        ok, invalid = self._counters_of(model.spec.version)
        ok.inc(total - broken)
        if broken:
            self._broken_batches += 1
            invalid.inc(broken)
            self._say(model, broken, tried.problem)
        return tried.scored

    def count_gate(self, model: Model, samples: int, unsure: int) -> None:
        """Counts what the gate decided on a model's samples, and what of it it did not accept."""
        if model is self.model:
            self._counts.gate(samples, unsure)

    def count_asked(self, spec: ModelSpec, questions: int) -> None:
        """Counts questions of a model to the next tier."""
        if self._serves(spec):
            self._counts.asked += questions

    def count_lost(self, spec: ModelSpec) -> None:
        """Counts a question of a model that got no answer in time, or was not sent."""
        if self._serves(spec):
            self._counts.lost += 1

    def _describe(self) -> None:
        """Says of the model what is known now."""
        before, model = self.info, self.model
        self.info = None if model is None else describe(model.spec, self._finding, self._void)
        if self.info == before:
            return
        self.changes += 1
        if model is None or self.info is None:
            self._metrics.show_certificate(self.pipeline, None, holds=False)
            return
        info = self.info
        threshold = math.inf if info.threshold is None else info.threshold
        self._metrics.show_certificate(self.pipeline, threshold, holds=info.certificate == "holds")
        if info.certificate in ("broken", "void"):
            log.warning(
                "%s: the certificate of version %s is %s: %s. The threshold is %g",
                self.pipeline, info.version, info.certificate, info.remark, threshold,
            )  # fmt: skip
        elif before is not None and before.certificate != info.certificate:
            log.info(
                "%s: certificate of version %s: %s", self.pipeline, info.version, info.certificate
            )

    def _serves(self, spec: ModelSpec) -> bool:
        return self.model is not None and self.model.spec is spec

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
