"""When to train again. Pure: counts and time come in, a decision goes out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from scipy.stats import binom

from cloud.watching.config import RetrainConfig


@dataclass(frozen=True, slots=True)
class Alarm:
    """The escalation rate has left what was certified.

    Attributes:
        rate: of the window, 0 to 1.
        expected: of the certificate, 0 to 1.
        samples: in the window.
        since: when the drift was seen, seconds since 1970.
    """

    rate: float
    expected: float
    samples: int
    since: float


class EscalationMonitor:
    """Watches the escalation rate of the release that serves.

    The alarm is an exact one-sided binomial test of the last ``window`` samples against the
    certified rate, and a margin, so that a large window does not alarm at a trifle.

    Args:
        config: window, margin and level.

    Attributes:
        alarm: set until ``begin`` is called for a new release.
    """

    def __init__(self, config: RetrainConfig) -> None:
        self.alarm: Alarm | None = None
        self._config = config
        self._version = ""
        self._expected = 1.0
        self._counts: deque[tuple[int, int]] = deque()
        self._seen = 0
        self._unsure = 0

    def begin(self, version: str, expected: float) -> None:
        """Starts anew for a release.

        Args:
            version: counts of other versions are left out.
            expected: the escalation rate that it was certified with, 0 to 1.
        """
        self._version = version
        self._expected = expected
        self._counts.clear()
        self._seen = self._unsure = 0
        self.alarm = None

    def add(self, version: str, seen: int, unsure: int, now: float) -> bool:
        """Adds counts of a node.

        Args:
            version: of its model.
            seen: samples that it gated.
            unsure: how many it was not sure of.
            now: seconds since 1970.

        Returns:
            True if this raised the alarm.
        """
        if version != self._version or not 0 <= unsure <= seen or seen == 0:
            return False
        self._counts.append((seen, unsure))
        self._seen += seen
        self._unsure += unsure
        while self._seen - self._counts[0][0] >= self._config.window:
            old_seen, old_unsure = self._counts.popleft()
            self._seen -= old_seen
            self._unsure -= old_unsure
        if self.alarm is not None or not self._left_the_expected():
            return False
        self.alarm = Alarm(self._unsure / self._seen, self._expected, self._seen, now)
        return True

    def _left_the_expected(self) -> bool:
        if self._seen < self._config.window:
            return False
        if self._unsure / self._seen < self._expected + self._config.margin:
            return False
        chance = binom.sf(self._unsure - 1, self._seen, min(self._expected, 1.0))
        return bool(chance < self._config.p_value)
