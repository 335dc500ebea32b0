"""The audit: a random share of all samples that the next tier sees too. Pure."""

from __future__ import annotations

import math
import random


class Audit:
    """Draws each sample with the same chance, whatever it is.

    It draws before the gate and from all samples alike: the drawn ones are a uniform sample of the
    traffic, and what is estimated on them needs no weights.

    Not a number for each sample is drawn but the gap to the next one that is audited, which is
    geometric where every sample has the same chance (Devroye, Non-Uniform Random Variate
    Generation, 1986, X.2): a batch in which nothing is audited costs a subtraction.

    Args:
        share: the chance, 0 to 1.
        rng: draws the gaps.
    """

    def __init__(self, share: float, rng: random.Random) -> None:
        self._share = share
        self._rng = rng
        self._next = self._gap()

    def draw(self, count: int) -> list[int]:
        """Returns which of the next ``count`` samples are audited, by their place, ascending."""
        if self._next >= count:
            self._next -= count
            return []
        drawn = []
        while self._next < count:
            drawn.append(int(self._next))
            self._next += 1 + self._gap()
        self._next -= count
        return drawn

    def _gap(self) -> float:
        """Returns how many samples are passed over before the next that is audited."""
        if self._share <= 0:
            return math.inf
        if self._share >= 1:
            return 0
        return math.floor(math.log(1 - self._rng.random()) / math.log1p(-self._share))
