"""What was recorded of the version that is meant, and of those before it, out of the store."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloud.certificate.observed import Observed, TrafficError
from cloud.certificate.promise import Promise
from cloud.config import CloudPipelineConfig
from cloud.store.opening import open_store
from cloud.store.store import TelemetryStore
from cloud.store.traffic import Traffic
from cloud.version import Version
from escalon.release.scope import Scope
from escalon.what_if.report import VersionCurve
from shared.errors import EscalonError
from shared.model_spec import Calibration

MAX_SAMPLES = 500_000
"""So many of a version are looked at, the latest."""
EARLIER_VERSIONS = 4
"""So many versions before it are drawn beside it."""


@dataclass(frozen=True)
class Look:
    """What is looked at.

    Attributes:
        pipeline: the pipeline.
        config: its configuration.
        version: of tier-1.
        tier2_version: that answered beside it last.
        observed: what both saw.
        curves: of the versions before, and of this one last.
    """

    pipeline: str
    config: CloudPipelineConfig
    version: Version
    tier2_version: str
    observed: Observed
    curves: tuple[VersionCurve, ...]

    @property
    def calibration(self) -> Calibration:
        """Of the version: of its first file."""
        return self.version.release.variants[0].calibration

    @property
    def promise(self) -> Promise:
        """What a certificate of the pipeline is to say."""
        certificate = self.config.certificate
        return Promise(certificate.alpha, certificate.delta, certificate.escalation_budget)
