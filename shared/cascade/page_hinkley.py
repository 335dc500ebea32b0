"""Whether the mean of a stream has changed: the test of Page and Hinkley, batch by batch. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

LARGEST_VARIANCE = 0.25
"""Of anything between 0 and 1 (Popoviciu, 1935)."""
ROUNDS = 40


@dataclass(frozen=True)
class DriftLimits:
    """What counts as a change.

    Attributes:
        tolerance: a mean that moves by no more than this has not changed, above 0.
        threshold: how far the sum of what goes beyond that may rise, in samples times the unit of
            the stream.
        min_samples: nothing is said before so many.
    """

    tolerance: float
    threshold: float
    min_samples: int


class PageHinkley(msgspec.Struct):
    """The two-sided test on a stream of numbers from 0 to 1, in constant memory.

    Page, Continuous Inspection Schemes, Biometrika 41, 1954; Hinkley, Inference about the
    change-point from cumulative sum tests, Biometrika 58, 1971. What a sample deviates from the
    mean of all so far, beyond the tolerance, is summed up; where the sum is further above its
    lowest value (or below its highest) than the threshold, the mean has changed. Fed one by one
    this is ``river.drift.PageHinkley`` with ``alpha`` 1, and a test holds it against that one. Fed
    in batches it looks at the end of each.

    Attributes:
        count: samples so far.
        mean: of them.
        rise: the sum that grows where the mean does.
        lowest: the least that it was.
        fall: the sum that sinks where the mean does.
        highest: the most that it was.
    """

    count: int = 0
    mean: float = 0.0
    rise: float = 0.0
    lowest: float = math.inf
    fall: float = 0.0
    highest: float = -math.inf

    def update(self, count: int, total: float, limits: DriftLimits) -> bool:
        """Takes a batch; returns whether the mean has changed, and begins anew if it has.

        Args:
            count: samples in it, at least 1.
            total: their sum.
            limits: what counts as a change.
        """
        self.count += count
        self.mean += (total - count * self.mean) / self.count
        deviation, slack = total - count * self.mean, count * limits.tolerance
        self.rise = rise = self.rise + deviation - slack
        self.fall = fall = self.fall + deviation + slack
        self.lowest = min(self.lowest, rise)
        self.highest = max(self.highest, fall)
        is_moved = max(rise - self.lowest, self.highest - fall) > limits.threshold
        if not is_moved or self.count < limits.min_samples:
            return False
        self.begin()
        return True

    def begin(self) -> None:
        """Forgets all that came."""
        self.count, self.mean = 0, 0.0
        self.rise, self.lowest = 0.0, math.inf
        self.fall, self.highest = 0.0, -math.inf


def threshold_for(tolerance: float, samples: float) -> float:
    """Returns the threshold at which a stream that does not change alarms once in so many samples.

    For independent samples between 0 and 1 of the largest variance, so that with any other it
    alarms more seldom. A sum that sinks by the tolerance δ a sample reaches a height λ above its
    lowest value after (e^x - x - 1) σ² / 2δ² samples on average, x = 2δλ / σ² (Siegmund, Sequential
    Analysis, 1985, chapter II.6, for a Brownian motion). Either of the two sums may, so half as
    many.

    Args:
        tolerance: δ, above 0.
        samples: between two false alarms, at least 1.
    """
    wanted = 2 * samples * 2 * tolerance**2 / LARGEST_VARIANCE
    exponent = 0.0
    for _ in range(ROUNDS):
        exponent = math.log1p(exponent + wanted)
    return exponent * LARGEST_VARIANCE / (2 * tolerance)
