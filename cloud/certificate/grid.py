"""The thresholds that are tested, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.scores import Floats

COVERAGES = np.arange(60, 101, 2) / 100.0
"""Shares of the tuning samples that the grid's thresholds accept, strictest first. Fixed before
any data is seen."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Thresholds in the order of their tests, strictest first.

    Attributes:
        thresholds: float64 [M], each a float32 exactly: the gate compares in float32.
        coverages: float64 [M], the share of the tuning samples that each accepts.
    """

    thresholds: NDArray[np.float64]
    coverages: NDArray[np.float64]

    @classmethod
    def of(cls, certainty: Floats, also: Sequence[float] = ()) -> Grid:
        """Returns the thresholds that accept ``COVERAGES`` of the tuning samples.

        Args:
            certainty: float32 [N], of samples that take no part in the tests; those that are
                malformed (NaN) are left out.
            also: thresholds chosen without the samples of the tests. One that is stricter than all
                others is left out: it would leave the first test, which ends the sequence where it
                fails, with few samples.
        """
        sound = np.sort(np.asarray(certainty, np.float32)[np.isfinite(certainty)])
        if not len(sound):
            return cls(np.empty(0), np.empty(0))
        quantiles = np.quantile(sound.astype(np.float64), 1.0 - COVERAGES).astype(np.float32)
        more = np.asarray(also, np.float32)
        thresholds = np.unique(np.concatenate([quantiles, more[more <= quantiles[0]]]))[::-1]
        below = np.searchsorted(sound, thresholds)
        return cls(thresholds.astype(np.float64), 1.0 - below / len(sound))

    def __len__(self) -> int:
        """Returns how many thresholds there are."""
        return len(self.thresholds)
