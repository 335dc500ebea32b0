"""Whether what was certified of a model's threshold counts on a node. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.messages import CertificateState, ModelInfo
from shared.model_spec import ModelSpec

if TYPE_CHECKING:
    from shared.releases.manifest import Void


@dataclass(frozen=True)
class Finding:
    """What a node has found out itself, since the calibration of its model serves there.

    Attributes:
        threshold: that its gate goes by; None for the one that the model came with.
        broken: how the audit has broken the certificate, in words; empty if it has not.
        drifted: what has drifted, in words; empty if nothing has.
        drift_alarms: how often.
    """

    threshold: float | None = None
    broken: str = ""
    drifted: str = ""
    drift_alarms: int = 0


NOTHING_FOUND = Finding()


def describe(spec: ModelSpec, finding: Finding, void: Void | None) -> ModelInfo:
    """Returns what a node says of the model that serves.

    What its own audit has found counts for more than what is said of the whole fleet: it is about
    the threshold of this node, and stays when the fleet's certificate is restored.

    Args:
        spec: of the model.
        finding: of this node.
        void: what the newest manifest of its release says.
    """
    released = spec.calibration.threshold
    threshold = released if finding.threshold is None else finding.threshold
    state, remark = _standing(spec, finding, void)
    return ModelInfo(
        model=spec.name,
        version=spec.version,
        sha256=spec.sha256,
        certificate=state,
        threshold=threshold if math.isfinite(threshold) else None,
        drift_alarms=finding.drift_alarms,
        remark=remark,
    )


def _standing(spec: ModelSpec, finding: Finding, void: Void | None) -> tuple[CertificateState, str]:
    if spec.calibration.certificate is None:
        return "none", ""
    if finding.broken:
        return "broken", finding.broken
    if void is not None:
        return "void", void.reason
    if finding.drifted:
        return "void", finding.drifted
    return "holds", ""
