"""Which tests a series goes through. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cloud.watching.agreement import Calibration, CertifiedRisk
from cloud.watching.change import Adwin, PageHinkley
from cloud.watching.config import DriftConfig
from cloud.watching.finding import Finding
from cloud.watching.reference import AuditReference, Moments
from cloud.watching.series import Audited, Block, keeps

BLOCKS_CLOCK, AUDITS_CLOCK = 4, 32
CONFIDENCE_GROUP, DISAGREEMENT_GROUP = 10, 20
"""Page-Hinkley takes so many samples together. A rare disagreement alone is seven standard
deviations or more, and a few by chance would be an alarm."""

RATE = "the escalation rate"
CONFIDENCE = "tier-1's confidence in what it accepts"
DISAGREEMENT = "the share of what tier-1 accepts that tier-2 answers otherwise"

OnBlock = Callable[[Block], Finding | None]
OnAudit = Callable[[Audited], Finding | None]


def rate_tests(reference: Moments, config: DriftConfig) -> Sequence[OnBlock]:
    """Returns the tests that hold the escalation rate against itself."""
    of_one = (reference.mean * (1.0 - reference.mean)) ** 0.5
    adwin = Adwin(RATE, config.adwin_delta, config.min_effect * of_one, BLOCKS_CLOCK)
    page_hinkley = PageHinkley(
        RATE, reference, config.page_hinkley_delta, config.page_hinkley_threshold
    )
    return (lambda block: adwin.add(block.rate), lambda block: page_hinkley.add(block.rate))


def audit_tests(
    reference: AuditReference, alpha: float | None, config: DriftConfig
) -> Sequence[OnAudit]:
    """Returns the tests on audited and accepted samples. They see a uniform sample of those.

    Args:
        reference: the first of them.
        alpha: what was certified of the risk; None for nothing.
        config: of the tests.
    """
    run = config.audits_per_false_alarm
    tests: list[OnAudit] = [
        Calibration(reference.gap, config.calibration_margin, run).add,
        *_confidence_tests(reference.confidence, config),
        *_disagreement_tests(reference.disagreement, config),
    ]
    if alpha is not None:
        tests.insert(0, CertifiedRisk(alpha, run).add)
    return [_thinned(test, reference.chance) for test in tests]


def _confidence_tests(reference: Moments, config: DriftConfig) -> Sequence[OnAudit]:
    least = config.min_effect * reference.deviation
    adwin = Adwin(CONFIDENCE, config.adwin_delta, least, AUDITS_CLOCK)
    page_hinkley = PageHinkley(
        CONFIDENCE,
        reference,
        config.page_hinkley_delta,
        config.page_hinkley_threshold,
        falls=True,
        group=CONFIDENCE_GROUP,
    )
    return (
        lambda sample: adwin.add(sample.confidence),
        lambda sample: page_hinkley.add(sample.confidence),
    )


def _disagreement_tests(reference: Moments, config: DriftConfig) -> Sequence[OnAudit]:
    least = config.min_effect * reference.deviation
    # That tier-2 agrees more often than before is no harm.
    adwin = Adwin(DISAGREEMENT, config.adwin_delta, least, AUDITS_CLOCK, rises=True)
    page_hinkley = PageHinkley(
        DISAGREEMENT,
        reference,
        config.page_hinkley_delta,
        config.page_hinkley_threshold,
        group=DISAGREEMENT_GROUP,
    )
    return (
        lambda sample: adwin.add(float(not sample.agrees)),
        lambda sample: page_hinkley.add(float(not sample.agrees)),
    )


def _thinned(test: OnAudit, smallest: float) -> OnAudit:
    return lambda sample: test(sample) if keeps(sample.number, sample.chance, smallest) else None
