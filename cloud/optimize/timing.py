"""How much faster one model is than another, on a machine where others run as well. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

Call = Callable[[], object]
Clock = Callable[[], float]

SLICE_S = 0.0004
"""A measurement takes at least so long: a model of a few µs is called many times. Many short ones
tell more than a few long ones, of which a busy machine disturbs nearly every one."""


@dataclass(frozen=True)
class Pairs:
    """What interleaved measurements of two models found.

    Attributes:
        latency_ms: of one call of the second model, median.
        speed: how many times faster the second is than the first, median of the pairs.
        count: pairs.
    """

    latency_ms: float
    speed: float
    count: int


def interleaved(first: Call, second: Call, clock: Clock, go_on: Callable[[int], bool]) -> Pairs:
    """Measures two models in turn, every second time in the other order.

    What else the machine does falls on both of a pair alike, so that their ratio is steadier than
    either time.

    Args:
        first: one call of the model that is compared with.
        second: one call of the model that is measured.
        clock: in s. The processor time of this thread: by the clock on the wall, a busy machine
            would make every model look slow.
        go_on: whether there is to be another pair after so many, of which there is at least one.
    """
    calls = (first, second)
    repeats = [_repeats(call, clock) for call in calls]
    times_s: tuple[list[float], list[float]] = ([], [])
    while (count := len(times_s[0])) == 0 or go_on(count):
        for which in (0, 1) if count % 2 == 0 else (1, 0):
            times_s[which].append(_time_s(calls[which], repeats[which], clock))
    ratios = [one / other for one, other in zip(*times_s, strict=True)]
    return Pairs(1000 * statistics.median(times_s[1]), statistics.median(ratios), len(ratios))


def _repeats(call: Call, clock: Clock) -> int:
    """Returns how many calls fill a slice; by then they have run often enough to be warm."""
    call()
    done, began_s = 0, clock()
    while (passed_s := clock() - began_s) < SLICE_S:
        call()
        done += 1
    return max(1, math.ceil(done * SLICE_S / passed_s))


def _time_s(call: Call, repeats: int, clock: Clock) -> float:
    began_s = clock()
    for _ in range(repeats):
        call()
    return (clock() - began_s) / repeats
