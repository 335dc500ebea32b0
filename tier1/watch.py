"""Watches what serves a pipeline: has it drifted, does its certificate still hold. Pure."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from shared.metrics import NodeMetrics
from shared.model import Model
from shared.model_spec import ModelSpec
from shared.slot import Slot
from tier1.calibration_watch import CalibrationWatch, identity
from tier1.drift_config import DriftConfig

MAX_KEPT = 3
"""The model that serves, one in its probation, and the one before: each may come back."""

CHUNK_SAMPLES = 64
"""So many go into the detectors together: a batch of one sample costs three additions."""

log = logging.getLogger(__name__)


class Watch:
    """Watches what serves, and knows what it has found of the models before.

    A model that comes back with the same calibration, by a rollback or a restart, comes back to
    what was found of it. Only another calibration begins anew.

    Args:
        config: what counts as a drift.
        slot: holds the model, and says what is found of it.
        metrics: counts the alarms.

    Attributes:
        changed: whether something is worth keeping that has not been kept yet.
        urgent: whether it is worth keeping at once.
    """

    def __init__(self, config: DriftConfig, slot: Slot, metrics: NodeMetrics) -> None:
        self.changed = False
        self.urgent = False
        self._limits = config.limits
        self._slot = slot
        self._metrics = metrics
        self._kept: dict[str, CalibrationWatch] = {}
        self._model: Model | None = None
        self._current: CalibrationWatch | None = None
        self._threshold = 0.0
        self._seen = 0
        self._unsure = 0
        self._confidence = 0.0

    @property
    def kept(self) -> list[CalibrationWatch]:
        """What is known of the last models; that of the one that serves comes last."""
        return list(self._kept.values())

    def restore(self, kept: Iterable[CalibrationWatch]) -> None:
        """Takes over what an earlier life has kept, and says what of it holds of what serves."""
        self._kept = {each.identity: each for each in kept}
        self._model = None
        self.look()

    def look(self) -> None:
        """Looks whether another model serves."""
        model = self._slot.model
        if model is self._model:
            return
        self._model, self._current = model, None
        self._seen, self._unsure, self._confidence = 0, 0, 0.0
        if model is None:
            return
        name = identity(model.spec)
        self._current = self._kept.pop(name, None) or CalibrationWatch(name)
        self._kept[name] = self._current
        while len(self._kept) > MAX_KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._say(self._current, model.spec)

    def threshold(self, model: Model) -> float:
        """Returns the certainty from which on a model's answers are accepted."""
        if self._slot.model is not self._model:
            self.look()
        if model is self._model:
            return self._threshold
        # Of a batch that was under way when it was replaced.
        known = self._kept.get(identity(model.spec))
        return model.spec.calibration.threshold if known is None else known.threshold_of(model.spec)

    def gated(self, model: Model, seen: int, unsure: int, confidence: float) -> int:
        """Takes what the gate decided on a batch; returns how many signals have drifted.

        Args:
            model: that the batch went through.
            seen: samples in it, at least 1.
            unsure: how many the gate did not accept.
            confidence: sum of their confidences.
        """
        if model is not self._model:
            return 0
        self._seen += seen
        self._unsure += unsure
        self._confidence += confidence
        return self._look_for_drift(model) if self._seen >= CHUNK_SAMPLES else 0

    def _look_for_drift(self, model: Model) -> int:
        current = self._current
        if current is None:
            return 0
        drifted = current.gated(self._seen, self._unsure, self._confidence, self._limits)
        self._seen, self._unsure, self._confidence = 0, 0, 0.0
        for signal in drifted:
            self._metrics.drift_alarms.labels(self._slot.pipeline, signal).inc()
            log.warning(
                "%s: version %s drifts: %s",
                self._slot.pipeline,
                model.spec.version,
                current.drifted,
            )
        if drifted:
            self.urgent = self.urgent or current.drift_alarms == len(drifted)
            self._note(current, model.spec)
        return len(drifted)

    def audited(self, spec: ModelSpec, certainty: float, *, agrees: bool) -> None:
        """Takes tier-2's answer to an audited sample that was accepted.

        Args:
            spec: of the model that accepted it.
            certainty: what the threshold was held against.
            agrees: whether tier-2 said the same.
        """
        current = self._current
        if current is None or self._model is None or spec is not self._model.spec:
            return
        self.changed = True
        if current.audited(certainty, agrees=agrees, spec=spec):
            self.urgent = True
            self._note(current, spec)

    def _note(self, current: CalibrationWatch, spec: ModelSpec) -> None:
        self.changed = True
        self._say(current, spec)

    def _say(self, current: CalibrationWatch, spec: ModelSpec) -> None:
        self._threshold = current.threshold_of(spec)
        self._slot.find(current.finding)
