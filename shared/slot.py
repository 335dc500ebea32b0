"""The place of the model that serves one pipeline."""

from __future__ import annotations

import logging

import numpy as np

from shared.errors import ArtefactError
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.releases.updater import Health
from shared.scores import Floats, well_formed

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
        self._pipeline = pipeline
        self._metrics = metrics
        self._batches = 0
        self._broken_batches = 0

    @property
    def health(self) -> Health:
        """What a probation looks at."""
        return Health(self._batches, self._broken_batches)

    def put(self, model: Model | None) -> None:
        """Lets a model serve from the next batch on; None lets samples wait for one."""
        self.model = model
        shown = None if model is None else (model.spec.name, model.spec.version)
        self._metrics.show_model(self._pipeline, shown)
        if model is not None:
            log.info("%s: version %s serves", self._pipeline, model.spec.version)
        else:
            log.info("%s waits for a release", self._pipeline)

    def probabilities(self, model: Model, inputs: Floats) -> Floats:
        """Runs a batch through the model that the caller took from here.

        Args:
            model: what ``model`` was when the batch began.
            inputs: float32 [N, ...].

        Returns:
            float32 [N, labels]; NaN where the scores are malformed, or where the model cannot run.
        """
        self._batches += 1
        try:
            result = model.probabilities(inputs)
        except ArtefactError as error:
            log.error("%s: %s", self._pipeline, error)
            result = np.full((len(inputs), len(model.spec.labels)), np.nan, np.float32)
        sound = int(well_formed(result).sum())
        self._broken_batches += sound < len(inputs)
        count, version = self._metrics.inferences, model.spec.version
        count.labels(model_version=version, status="ok").inc(sound)
        count.labels(model_version=version, status="invalid_scores").inc(len(inputs) - sound)
        return result
