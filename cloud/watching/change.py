"""Whether a series has changed: ADWIN and Page-Hinkley, as river has them. Pure."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray
from river import drift

from cloud.watching.finding import Finding
from cloud.watching.reference import Moments

RECENT = 20


class Adwin:
    """ADWIN: two parts of a window of adaptive length differ in their means.

    Bifet and Gavalda, Learning from time-changing data with adaptive windowing, SIAM International
    Conference on Data Mining, 2007.

    Args:
        what: the series, for the words.
        delta: its confidence value, 0 to 1.
        least_change: of the mean; smaller ones are passed over.
        clock: it looks at every so many values.
        rises: whether a fall is no news.
    """

    def __init__(
        self, what: str, delta: float, least_change: float, clock: int, *, rises: bool = False
    ) -> None:
        self._what = what
        self._least_change = least_change
        self._only_rises = rises
        self._adwin = drift.ADWIN(delta=delta, clock=clock)
        self._values: list[float] = []

    def add(self, item: float) -> Finding | None:
        """Takes a value, 0 to 1; says so once the mean has changed."""
        self._adwin.update(item)
        self._values.append(item)
        if not self._adwin.drift_detected:
            return None
        before, after = change_of_mean(np.array(self._values))
        self._values.clear()  # with the next value, ADWIN begins anew
        change = after - before if self._only_rises else abs(after - before)
        if change < self._least_change:
            return None
        return Finding("adwin", f"{self._what} went from {before:.1%} to {after:.1%} (ADWIN)")


def change_of_mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the means before and after the likeliest change in a series.

    ADWIN says that there is one, and forgets only as much as it takes until it is no longer sure.
    The likeliest place is that of the greatest cumulative sum of deviations from the mean, weighted
    for its distance from both ends (least squares; Hawkins, Testing a sequence of observations for
    a shift in location, Journal of the American Statistical Association 72, 1977).

    Args:
        values: float64 [N], N at least 2.
    """
    n = len(values)
    before = np.arange(1, n)
    sums = np.cumsum(values - values.mean())[:-1]
    place = int(np.argmax(np.square(sums) / (before * (n - before)))) + 1
    return float(values[:place].mean()), float(values[place:].mean())


class PageHinkley:
    """Page-Hinkley: a series lies on one side of its mean for too long.

    Page, Continuous inspection schemes, Biometrika 41, 1954. Values go in as deviations from the
    reference, in its standard deviations, so that one threshold serves all series; those that are
    far from normal go in as means of several.

    Args:
        what: the series, for the words.
        reference: of the series.
        delta: allowance, in standard deviations.
        threshold: in standard deviations.
        falls: whether it looks for a fall, not a rise.
        group: so many values are taken together.
    """

    def __init__(
        self,
        what: str,
        reference: Moments,
        delta: float,
        threshold: float,
        *,
        falls: bool = False,
        group: int = 1,
    ) -> None:
        self._what = what
        self._reference = reference
        self._sign = -1.0 if falls else 1.0
        self._scale = self._sign * group**0.5 / reference.deviation
        self._group: list[float] = []
        self._size = group
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._test = drift.PageHinkley(
            min_instances=RECENT, delta=delta, threshold=threshold, alpha=1.0, mode="up"
        )

    def add(self, item: float) -> Finding | None:
        """Takes a value; says so once it has risen, or fallen."""
        self._group.append(item)
        if len(self._group) < self._size:
            return None
        mean = sum(self._group) / self._size
        self._group.clear()
        self._recent.append(mean)
        self._test.update((mean - self._reference.mean) * self._scale)
        if not self._test.drift_detected:
            return None
        lately = sum(self._recent) / len(self._recent)
        return Finding(
            "page_hinkley",
            f"{self._what} {'fell' if self._sign < 0 else 'rose'} from {self._reference.mean:.1%} "
            f"to {lately:.1%} (Page-Hinkley)",
        )
