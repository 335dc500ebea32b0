"""How long answers take where a share of the samples is asked: measured latencies, mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Latency:
    """Of all answers, in milliseconds."""

    mean_ms: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Latencies:
    """What was measured, from receipt on tier-1 to the final answer.

    Attributes:
        alone_ms: float64 [A], A at least 1: of answers that tier-1 gave at once.
        asked_ms: float64 [B], B at least 1: of the others.
    """

    alone_ms: NDArray[np.float64]
    asked_ms: NDArray[np.float64]

    def mixed(self, asked_share: float) -> Latency:
        """Returns the latency where another share is asked.

        The mixture of both distributions. It knows nothing of load: where many more are asked,
        tier-2 answers later than it did.

        Args:
            asked_share: of the samples, 0 to 1.
        """
        values = np.concatenate([self.alone_ms, self.asked_ms])
        weights = np.concatenate(
            [
                np.full(len(self.alone_ms), (1.0 - asked_share) / len(self.alone_ms)),
                np.full(len(self.asked_ms), asked_share / len(self.asked_ms)),
            ]
        )
        order = np.argsort(values)
        values, cumulative = values[order], np.cumsum(weights[order])

        def quantile(part: float) -> float:
            # The last step of the sum may fall short of 1 by rounding.
            place: Any = np.searchsorted(cumulative, part - 1e-12)
            return float(values[min(int(place), len(values) - 1)])

        return Latency(float(np.sum(values * weights[order])), quantile(0.5), quantile(0.99))
