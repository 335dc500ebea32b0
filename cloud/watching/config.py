"""When tier-1 is trained again, and what counts as a drift, as a configuration says it."""

from __future__ import annotations

from pydantic import Field

from shared.config_section import Section

DAY_S = 86_400.0


class DriftConfig(Section):
    """How it is told that the inputs have changed, or what they mean."""

    adwin_delta: float = Field(default=0.002, gt=0, lt=1)
    """ADWIN's confidence value: the smaller, the surer and the slower."""
    min_effect: float = Field(default=0.1, ge=0, le=10)
    """A change that ADWIN finds is passed over below so many standard deviations of one sample: of
    very many samples it finds the smallest."""
    page_hinkley_delta: float = Field(default=0.25, gt=0, le=10)
    """Page-Hinkley's allowance, in standard deviations: smaller changes are passed over."""
    page_hinkley_threshold: float = Field(default=40.0, gt=0, le=10_000)
    """Page-Hinkley's threshold, in standard deviations: the larger, the surer and the slower."""
    reference: int = Field(default=300, ge=50, le=10_000)
    """The first so many audited and accepted samples of a release say how it does; later ones are
    held against them."""
    calibration_margin: float = Field(default=0.02, ge=0, lt=1)
    """Tier-2 may agree so much less often than tier-1's confidence says, beyond what it did in the
    reference, without an alarm."""
    audits_per_false_alarm: float = Field(default=100_000.0, ge=100, le=1e12)
    """The tests on the audit give at most one false alarm in so many audited and accepted samples,
    on average."""


class RetrainConfig(Section):
    """When tier-1 is trained again."""

    window: int = Field(default=600, ge=50, le=1_000_000)
    """The escalation rate is held against the certified one on so many samples."""
    margin: float = Field(default=0.1, gt=0, le=1)
    """How far the rate must lie above the certified one, 0 to 1."""
    p_value: float = Field(default=1e-6, gt=0, lt=1)
    """How unlikely the rate must be by chance."""
    drift: DriftConfig = DriftConfig()
    """The other tests for a drift."""
    after_samples: int | None = Field(default=None, ge=100, le=1_000_000_000)
    """Train again after so many new samples in the store, drift or not; left out, never."""
    every_s: float | None = Field(default=None, ge=60, le=3650 * DAY_S)
    """Train again after so many seconds, drift or not; left out, never."""
    audits: int = Field(default=570, ge=40, le=1_000_000)
    """So many new samples of the audit are awaited, whatever the cause: they alone certify. New are
    those since the drift, or without one since the training before. Labels of people teach, and
    those on audited samples certify as well; of others there may be any number."""
    cool_down_s: float = Field(default=600.0, ge=0, le=365 * DAY_S)
    """No second training sooner than this after the start of a first."""
