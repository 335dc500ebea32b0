"""One version of tier-1's model and the tests on its traffic. Pure: rows come in, an alarm out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from cloud.watching.agreement import WINDOW, Agreement, agreement
from cloud.watching.battery import audit_tests, rate_tests
from cloud.watching.config import RetrainConfig
from cloud.watching.escalation import CertifiedRate
from cloud.watching.finding import Finding
from cloud.watching.reference import learn_audits, learn_rate
from cloud.watching.series import Audited, Block, Blocks, Counted
from cloud.watching.state import Alarm, VersionWatch
from cloud.watching.track import Track

LEAST_BLOCK = 10
REFERENCE_BLOCKS = 100


@dataclass(frozen=True, slots=True)
class Promised:
    """What was certified of a version.

    Attributes:
        escalation_rate: 0 to 1.
        alpha: bound on P(tier-2 disagrees | accepted); None where nothing was.
    """

    escalation_rate: float
    alpha: float | None


class Watch:
    """Feeds a version's rows to the tests.

    Args:
        watch: what is known of the version.
        promised: what was certified of it.
        config: of the tests.
    """

    def __init__(self, watch: VersionWatch, promised: Promised, config: RetrainConfig) -> None:
        self._watch = watch
        self._blocks = Blocks(LEAST_BLOCK)
        self._certified_rate = CertifiedRate(promised.escalation_rate, config)
        self._rate = Track(
            watch.counts_after,
            watch.rate,
            learn=learn_rate,
            needed=REFERENCE_BLOCKS,
            tests=lambda reference: rate_tests(reference, config.drift),
        )
        self._audits = Track(
            watch.audits_after,
            watch.audits,
            learn=learn_audits,
            needed=config.drift.reference,
            tests=lambda reference: audit_tests(reference, promised.alpha, config.drift),
        )
        self._latest: deque[Audited] = deque(maxlen=WINDOW)

    def known(self, watch: VersionWatch) -> VersionWatch:
        """Returns a version's watch with what has been learned of it since it was begun."""
        return msgspec.structs.replace(
            watch,
            counts_after=self._rate.after,
            audits_after=self._audits.after,
            rate=self._rate.reference,
            audits=self._audits.reference,
        )

    @property
    def agreement(self) -> Agreement | None:
        """How often tier-2 agrees with what tier-1 accepts; None while nothing is known of it."""
        return agreement(self._latest) if self._latest else None

    def take_counts(self, rows: Sequence[Counted]) -> Alarm | None:
        """Takes gate counts behind those before; returns the first alarm."""
        alarms = []
        for block in self._blocks.add(rows, self._watch.version):
            certified, changed = self._certified_rate.add(block), self._rate.add(block)
            alarms += _alarm(certified or changed, block)
        return alarms[0] if alarms else None

    def take_audits(self, samples: Sequence[Audited]) -> Alarm | None:
        """Takes audited and accepted samples behind those before; returns the first alarm."""
        self._latest.extend(samples)
        alarms = []
        for sample in samples:
            alarms += _alarm(self._audits.add(sample), sample)
        return alarms[0] if alarms else None


def _alarm(finding: Finding | None, item: Block | Audited) -> list[Alarm]:
    if finding is None:
        return []
    return [Alarm(finding.test, finding.words, item.received_s, item.number)]
