"""Whether the mean of a bounded series has risen above a limit. Pure."""

from __future__ import annotations

BETS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Of what it has, a test stakes these shares on each value: the smaller, the better it sees a small
rise."""


class RisenMean:
    """A test that may look after every sample, for good, and begins anew with each of them.

    For each stake b the evidence that the mean has risen is

        M = (M + 1) * (1 + b * (value - limit) / (1 + limit)),

    a sum of betting martingales, one begun at every sample (the Shiryaev-Roberts e-detector of
    Shin, Ramdas and Rinaldo, E-detectors: a nonparametric framework for sequential change
    detection, arXiv 2203.03532; bets as in Waudby-Smith and Ramdas, Estimating means of bounded
    random variables by betting, arXiv 2010.09686). The mean of several such sums is one, too. While
    every value has a mean of at most the limit, given those before it, it takes at least ``run``
    samples on average until M reaches ``run``, however the values are distributed. Unlike a test of
    all samples so far it does not tire: a change after a long time without any is seen as soon.

    Args:
        limit: of the mean, 0 to 1.
        run: samples until a false alarm, on average, at least.
    """

    def __init__(self, limit: float, run: float) -> None:
        self._limit = limit
        self._run = run
        self._stakes = [bet / (1.0 + limit) for bet in BETS]
        self._evidence = [0.0] * len(BETS)

    def add(self, value: float) -> bool:
        """Takes a value, -1 to 1; returns whether the mean has risen above the limit."""
        excess = value - self._limit
        self._evidence = [
            (evidence + 1.0) * (1.0 + stake * excess)
            for evidence, stake in zip(self._evidence, self._stakes, strict=True)
        ]
        return sum(self._evidence) / len(BETS) >= self._run
