"""Whether more is escalated than was certified. Pure."""

from __future__ import annotations

from collections import deque

from scipy.stats import binom

from cloud.watching.config import RetrainConfig
from cloud.watching.finding import Finding
from cloud.watching.series import Block


class CertifiedRate:
    """Holds the escalation rate of the last samples against the certified one.

    An exact one-sided binomial test of the last ``window`` samples, and a margin, so that a large
    window does not alarm at a trifle. The other tests hold a series against itself: only this one
    sees what had changed before its series began.

    Args:
        expected: the escalation rate that was certified, 0 to 1.
        config: window, margin and level.
    """

    def __init__(self, expected: float, config: RetrainConfig) -> None:
        self._expected = expected
        self._config = config
        self._blocks: deque[Block] = deque()
        self._seen = 0
        self._unsure = 0

    def add(self, item: Block) -> Finding | None:
        """Takes counts; says so once the rate has left the certified one."""
        self._blocks.append(item)
        self._seen += item.seen
        self._unsure += item.unsure
        while self._seen - self._blocks[0].seen >= self._config.window:
            old = self._blocks.popleft()
            self._seen -= old.seen
            self._unsure -= old.unsure
        if not self._left_the_expected():
            return None
        return Finding(
            "binomial",
            f"{self._unsure / self._seen:.0%} of {self._seen} samples escalated where "
            f"{self._expected:.0%} were certified",
        )

    def _left_the_expected(self) -> bool:
        if self._seen < self._config.window:
            return False
        if self._unsure / self._seen < self._expected + self._config.margin:
            return False
        chance = binom.sf(self._unsure - 1, self._seen, min(self._expected, 1.0))
        return bool(chance < self._config.p_value)
