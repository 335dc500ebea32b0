"""All that ``escalon what-if`` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from cloud.certificate.curves import Curve
from cloud.certificate.what_if import WhatIf


@dataclass(frozen=True)
class VersionCurve:
    """How well one version's certainty tells where tier-2 answers otherwise.

    Attributes:
        version: of tier-1.
        samples: that it sent.
        curve: over all thresholds.
    """

    version: str
    samples: int
    curve: Curve

    @property
    def aurc(self) -> float:
        """Area under the risk-coverage curve."""
        return self.curve.aurc

    @property
    def augrc(self) -> float:
        """Area under the generalized risk-coverage curve."""
        return self.curve.augrc


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        pipeline: the pipeline.
        tier1_version: whose thresholds these are, as ``channel/version``.
        tier2_version: beside which.
        files: of how many files the version has; each node takes one, and telemetry does not say
            which.
        what_if: the table.
        versions: of tier-1, that one last.
    """

    pipeline: str
    tier1_version: str
    tier2_version: str
    files: int
    what_if: WhatIf
    versions: tuple[VersionCurve, ...]

    def facts(self) -> dict[str, Any]:
        """Returns it as names and values, for programs; None for what is not known."""
        curves = [
            {
                "version": each.version,
                "samples": each.samples,
                "aurc": each.aurc,
                "augrc": each.augrc,
            }
            for each in self.versions
        ]
        return {
            "pipeline": self.pipeline,
            "tier1_version": self.tier1_version,
            "tier2_version": self.tier2_version,
            "files": self.files,
            **msgspec.to_builtins(self.what_if),
            "versions": curves,
        }
