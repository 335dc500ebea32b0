"""How much the next tier may be asked a minute. Pure: the time comes in."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shared.cascade.config import BudgetConfig

ROUNDING = 1e-9  # what adding up small refills may lose


class Bucket:
    """A token bucket that holds a minute's worth, and may be overdrawn.

    Args:
        per_minute: what flows in; it is full at first.
    """

    def __init__(self, per_minute: int) -> None:
        self._capacity = float(per_minute)
        self._level = self._capacity
        self._filled_s: float | None = None

    def fill(self, now_s: float) -> None:
        """Lets in what has come since the last time."""
        if self._filled_s is not None and now_s > self._filled_s:
            inflow = self._capacity / 60 * (now_s - self._filled_s)
            self._level = min(self._capacity, self._level + inflow)
        self._filled_s = now_s if self._filled_s is None else max(self._filled_s, now_s)

    def covers(self, cost: float) -> int:
        """Returns for how many items of a cost there is enough.

        An item that is dearer than a full bucket needs a full one, and leaves a debt.
        """
        return max(0, math.floor(self._level / min(cost, self._capacity) + ROUNDING))

    @property
    def half_full(self) -> bool:
        """Whether half a minute's worth is there."""
        return self._level >= self._capacity / 2

    def spend(self, amount: float) -> None:
        """Takes out, into debt if need be; a negative amount puts back."""
        self._level = min(self._capacity, self._level - amount)


class Budget:
    """What may be asked, in samples and in bytes.

    Args:
        config: the limits.
    """

    def __init__(self, config: BudgetConfig) -> None:
        self._samples = _bucket(config.samples_per_minute)
        self._bytes = _bucket(config.bytes_per_minute)
        self._buckets: Sequence[Bucket] = [
            bucket for bucket in (self._samples, self._bytes) if bucket is not None
        ]

    def covers(self, sample_bytes: int, now_s: float) -> int | None:
        """Returns how many samples may be asked now, None for any number.

        Args:
            sample_bytes: what one takes on the wire.
            now_s: monotonic.
        """
        self._fill(now_s)
        covered: list[int] = []
        if self._samples is not None:
            covered.append(self._samples.covers(1))
        if self._bytes is not None:
            covered.append(self._bytes.covers(max(1, sample_bytes)))
        return min(covered, default=None)

    def has_half(self, now_s: float) -> bool:
        """Whether half a minute's worth is there, so that what is not urgent may go too."""
        self._fill(now_s)
        return all(bucket.half_full for bucket in self._buckets)

    def spend(self, samples: int, message_bytes: int) -> None:
        """Takes out what is asked; negative amounts put back what was not sent."""
        if self._samples is not None:
            self._samples.spend(samples)
        if self._bytes is not None:
            self._bytes.spend(message_bytes)

    def _fill(self, now_s: float) -> None:
        for bucket in self._buckets:
            bucket.fill(now_s)


def _bucket(per_minute: int | None) -> Bucket | None:
    return None if per_minute is None else Bucket(per_minute)
