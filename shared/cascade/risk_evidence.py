"""Whether the audit has disproved a certificate, since whenever things may have changed. Pure."""

from __future__ import annotations

import math

import msgspec

from shared.releases.evidence import log_evidence, near

STEP = 25
"""After so many results the evidence is counted from a new start as well."""
MAX_STARTS = 32


class Start(msgspec.Struct, frozen=True, gc=False):
    """A moment from which on things may have changed.

    Attributes:
        number: of this start, from 0: its weight is 1 / (number + 1)(number + 2).
        bad: disagreements before it.
        total: results before it.
    """

    number: int
    bad: int
    total: int


class RiskEvidence(msgspec.Struct):
    """A test of P(disagrees | accepted) <= alpha that may be looked at after every result, always.

    For each start the evidence is the mixture of likelihood ratios of ``evidence.py``, counted from
    there on: what only counts from the beginning would need the more bad results the more good ones
    there were before a change. Under P <= alpha each of them is a supermartingale that begins at 1.
    So is their weighted sum, for the weights sum to at most 1 and were given beforehand, and one
    that is given up only makes it smaller. By Ville's inequality the sum ever reaches 1 / delta
    with a probability of at most delta (Ramdas, Grünwald, Vovk and Shafer, Game-theoretic
    statistics and safe anytime-valid inference, Statistical Science 38, 2023, arXiv 2210.01948).
    Evidence from many starts finds changes: Shin, Ramdas and Rinaldo, E-detectors, arXiv
    2203.03532; they sum it without weights, which bounds how often it alarms, not whether.

    Attributes:
        bad: disagreements so far.
        total: results so far.
        starts: at most ``MAX_STARTS``, oldest first.
        begun: how many starts there were.
    """

    bad: int = 0
    total: int = 0
    starts: list[Start] = []
    begun: int = 0

    def add(self, *, bad: bool, alpha: float, delta: float) -> int:
        """Takes a result.

        Args:
            bad: whether tier-2 disagrees.
            alpha: the bound that is tested, above 0, below 1.
            delta: how likely a false alarm may be, above 0, below 1.

        Returns:
            0 while the evidence does not suffice; else of how many results, these being the last,
            it comes for the most part.
        """
        if self.total == STEP * self.begun:
            self._begin(alpha)
        self.total += 1
        self.bad += bad
        # What agrees lessens the evidence from every start.
        return self._suspects(alpha, delta) if bad else 0

    def _begin(self, alpha: float) -> None:
        """Counts from now on as well; of too many starts the one with the least evidence goes."""
        if len(self.starts) >= MAX_STARTS:
            weakest = min(self.starts, key=lambda start: self._log_evidence(start, alpha))
            self.starts.remove(weakest)
        self.starts.append(Start(self.begun, self.bad, self.total))
        self.begun += 1

    def _suspects(self, alpha: float, delta: float) -> int:
        logs = [self._log_evidence(start, alpha) for start in self.starts]
        weighed = [
            log - math.log((start.number + 1) * (start.number + 2))
            for log, start in zip(logs, self.starts, strict=True)
        ]
        largest = max(weighed)
        total = largest + math.log(sum(math.exp(each - largest) for each in weighed))
        if total < -math.log(delta):
            return 0
        return self.total - self.starts[weighed.index(largest)].total

    def _log_evidence(self, start: Start, alpha: float) -> float:
        bad, total = self.bad - start.bad, self.total - start.total
        return log_evidence(bad, total, alpha, near)
