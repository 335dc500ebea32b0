"""A node's watch of its model, without the node: audits and batches are drawn by the test."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from shared.metrics import NodeMetrics
from shared.model import Model
from shared.model_spec import Calibration, Certificate
from shared.slot import Slot
from tier1.drift_config import DriftConfig
from tier1.watch import Watch

CERTIFICATE = Certificate(alpha=0.05, delta=0.05, n=400, disagreements=8, coverage=0.8, bound=0.04)
BATCH = 50


def certified(model: Model, version: str = "1", threshold: float = 0.5, **changes: Any) -> Model:
    """Returns a model with a certificate."""
    certificate = replace(CERTIFICATE, **changes)
    calibration = Calibration(1.0, threshold, certificate)
    other = copy.copy(model)
    other.spec = replace(model.spec, version=version, calibration=calibration)
    return other


class Rig:
    """A watch of a slot."""

    def __init__(self, model: Model) -> None:
        self.metrics = NodeMetrics(CollectorRegistry())
        self.slot = Slot("meter", self.metrics)
        self.watch = Watch(DriftConfig(), self.slot, self.metrics)
        self.put(model)

    def put(self, model: Model) -> None:
        self.model = model
        self.slot.put(model)
        self.watch.look()

    def audit(self, seed: int, count: int, risk: float, *, least: float = 0.0) -> None:
        """Draws audited samples; those below a certainty are wrong by a risk, the others never."""
        rng = np.random.default_rng(seed)
        certainty = rng.uniform(self.released, 1.0, count)
        wrong = (rng.random(count) < risk) & (certainty < (least or 2.0))
        for each, bad in zip(certainty.tolist(), wrong.tolist(), strict=True):
            if each >= self.threshold:
                self.watch.audited(self.model.spec, each, agrees=not bad)

    def gate(self, seed: int, samples: int, rate: float, confidence: float = 0.9) -> int:
        """Lets batches through the gate; returns how many signals have drifted."""
        rng = np.random.default_rng(seed)
        unsure = rng.binomial(BATCH, rate, samples // BATCH).tolist()
        return sum(self.watch.gated(self.model, BATCH, each, BATCH * confidence) for each in unsure)

    @property
    def released(self) -> float:
        return self.model.spec.calibration.threshold

    @property
    def threshold(self) -> float:
        return self.watch.threshold(self.model)

    @property
    def state(self) -> str:
        assert self.slot.info is not None
        return self.slot.info.certificate

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"pipeline": "meter", **labels})
