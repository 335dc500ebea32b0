"""When the answers of a model have drifted, as a configuration says it."""

from __future__ import annotations

from pydantic import Field

from shared.cascade.page_hinkley import DriftLimits, threshold_for
from shared.config_section import Section


class DriftConfig(Section):
    """What counts as a drift of the escalation rate, or of the mean confidence."""

    tolerance: float = Field(default=0.02, gt=0, le=0.5)
    """A rate or a mean (both 0 to 1) that moves by no more than this has not drifted."""
    false_alarm_samples: float = Field(default=10_000_000.0, ge=1000)
    """Of samples that are drawn independently, either alarms falsely once in so many at most."""
    min_samples: int = Field(default=1000, ge=1)
    """Before a model has answered so many, nothing is said of it."""

    @property
    def limits(self) -> DriftLimits:
        """What the test goes by."""
        threshold = threshold_for(self.tolerance, self.false_alarm_samples)
        return DriftLimits(self.tolerance, threshold, self.min_samples)
