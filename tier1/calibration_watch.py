"""What a node has learnt of one calibration while it served: drift, and the audit's verdict. Pure.

It is small, it does not grow, and it is what is kept of it on the disk.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np

from shared.cascade.page_hinkley import DriftLimits, PageHinkley
from shared.cascade.risk_evidence import RiskEvidence
from shared.cascade.tightening import tightened
from shared.certificate import Finding
from shared.model_spec import Certificate, ModelSpec

WINDOW = 4096
"""So many audited results are kept, five bytes each."""
FLOAT_BYTES = 4

Signal = Literal["escalation_rate", "confidence"]


class CalibrationWatch(msgspec.Struct):
    """Watches one model with its calibration.

    Attributes:
        identity: of both.
        escalations: of each sample, whether it was escalated.
        confidence: of each sample, the probability of its likeliest label.
        risk: the audit's results, against the certificate.
        certainties: float32, of the last audited samples that were accepted at the threshold.
        agreements: of each, 1 if tier-2 said the same.
        threshold: that the audit has raised; None for the one that was released.
        broken: how the audit has broken the certificate, in words; empty if it has not.
        drifted: what has drifted, in words; empty if nothing has.
        drift_alarms: how often.
    """

    identity: str
    escalations: PageHinkley = msgspec.field(default_factory=PageHinkley)
    confidence: PageHinkley = msgspec.field(default_factory=PageHinkley)
    risk: RiskEvidence = msgspec.field(default_factory=RiskEvidence)
    certainties: bytes = b""
    agreements: bytes = b""
    threshold: float | None = None
    broken: str = ""
    drifted: str = ""
    drift_alarms: int = 0

    @property
    def finding(self) -> Finding:
        """What is to be said of it."""
        return Finding(self.threshold, self.broken, self.drifted, self.drift_alarms)

    def gated(self, seen: int, unsure: int, confidence: float, limits: DriftLimits) -> list[Signal]:
        """Takes a batch; returns what has drifted.

        Args:
            seen: samples in it, at least 1.
            unsure: how many the gate did not accept.
            confidence: sum of their confidences.
            limits: what counts as a drift.
        """
        found: list[Signal] = []
        before = self.escalations.mean
        if self.escalations.update(seen, unsure, limits):
            found.append("escalation_rate")
            self._note_drift("escalation rate", before, unsure / seen)
        before = self.confidence.mean
        if self.confidence.update(seen, confidence, limits):
            found.append("confidence")
            self._note_drift("mean confidence", before, confidence / seen)
        return found

    def audited(self, certainty: float, *, agrees: bool, spec: ModelSpec) -> bool:
        """Takes tier-2's answer to an audited sample that was accepted.

        Args:
            certainty: what the threshold was held against.
            agrees: whether tier-2 said the same.
            spec: of the model.

        Returns:
            Whether that breaks the certificate; then the threshold is another one.
        """
        certificate = testable(spec)
        threshold = self.threshold_of(spec)
        # It may have been accepted before the threshold was raised.
        if certificate is None or certainty < np.float32(threshold):
            return False
        self.certainties += np.float32(certainty).tobytes()
        self.agreements += bytes([agrees])
        self._keep(WINDOW)
        alpha, delta = certificate.alpha, certificate.delta
        suspects = self.risk.add(bad=not agrees, alpha=alpha, delta=delta)
        if suspects:
            self._tighten(suspects, certificate, threshold)
        return suspects > 0

    def threshold_of(self, spec: ModelSpec) -> float:
        """Returns the certainty from which on the gate accepts; infinite where it never does."""
        return spec.calibration.threshold if self.threshold is None else self.threshold

    def _tighten(self, suspects: int, certificate: Certificate, above: float) -> None:
        """Raises the threshold to what the results since the change certify, and tests on."""
        self._keep(suspects)
        certainty = np.frombuffer(self.certainties, np.float32)
        agrees = np.frombuffer(self.agreements, np.bool_)
        bad, total = int(np.count_nonzero(~agrees)), len(agrees)
        found = tightened(
            certainty, agrees, alpha=certificate.alpha, delta=certificate.delta, above=above
        )
        self.threshold = math.inf if found is None else found
        self.broken = (
            f"tier-2 disagrees with {bad} of the last {total} audited answers, certified were "
            f"{certificate.alpha:.2%}: "
            + ("nothing is accepted any more" if found is None else "the threshold was raised")
        )
        stays = certainty >= np.float32(self.threshold)
        self.certainties, self.agreements = certainty[stays].tobytes(), agrees[stays].tobytes()
        self.risk = RiskEvidence()

    def _keep(self, results: int) -> None:
        """Forgets all but the last results."""
        self.certainties = self.certainties[-FLOAT_BYTES * results :]
        self.agreements = self.agreements[-results:]

    def _note_drift(self, name: str, mean: float, now: float) -> None:
        self.drift_alarms += 1
        self.drifted = f"the {name} has left its mean of {mean:.3f}, the last batch has {now:.3f}"


def identity(spec: ModelSpec) -> str:
    """Returns what tells a model with its calibration from any other."""
    return repr((spec.name, spec.version, spec.sha256, spec.calibration))


def testable(spec: ModelSpec) -> Certificate | None:
    """Returns the certificate of a model, if it has one that results can speak against."""
    certificate = spec.calibration.certificate
    if certificate is None or not (0 < certificate.alpha < 1 and 0 < certificate.delta < 1):
        return None
    return certificate
