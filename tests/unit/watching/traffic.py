"""Simulated traffic of one release: what gates count, and what the audit draws of the accepted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.watching.config import RetrainConfig
from cloud.watching.series import Audited
from cloud.watching.state import Alarm, VersionWatch
from cloud.watching.watch import Promised, Watch

VERSION = "1"
FRESH = VersionWatch(version=VERSION, began_s=0.0, began_number=0, counts_after=0, audits_after=0)
RATE, RISK, ALPHA = 0.2, 0.02, 0.05
PROMISED = Promised(RATE, ALPHA)
PAGE = 1000

Shape = NDArray[np.float64]
"""What something is at each sample."""


@dataclass(frozen=True)
class Row:
    """A node's gate counts, as the store returns them."""

    number: int
    received_s: float
    model_version: str
    seen: int
    unsure: int


def steady(n: int, value: float) -> Shape:
    """Returns a value that does not change."""
    return np.full(n, value)


def abrupt(n: int, before: float, after: float, at: int) -> Shape:
    """Returns a value that changes at once."""
    return np.where(np.arange(n) < at, before, after)


def gradual(n: int, before: float, after: float, at: int, over: int) -> Shape:
    """Returns a value that changes little by little."""
    return np.interp(np.arange(n), [at, at + over], [before, after])


def counts(rng: np.random.Generator, rate: Shape, size: int = 5) -> list[Row]:
    """Draws gate counts: rows of about ``size`` samples, numbered by their last sample."""
    seen = 1 + rng.poisson(size - 1, 2 * len(rate) // size)
    ends = np.cumsum(seen)
    seen, ends = seen[ends <= len(rate)], ends[ends <= len(rate)]
    unsure = rng.binomial(seen, rate[ends - 1])
    return [Row(int(end), float(end), VERSION, int(a), int(b))
            for end, a, b in zip(ends, seen, unsure, strict=True)]  # fmt: skip


def audits(
    rng: np.random.Generator,
    risk: Shape,
    *,
    promised: Shape | None = None,
    chance: Sequence[float] = (0.1,),
) -> list[Audited]:
    """Draws audited samples of what tier-1 accepts, each a moment after the one before.

    Confidences lie in 0.9 to 1 and above, most of them near 1.

    Args:
        rng: source of the draws.
        risk: chance that tier-2 disagrees, on average, float64 [N].
        promised: what the confidence says of that; None for the truth.
        chance: of the audit on the nodes, by turns.
    """
    said = risk if promised is None else promised
    doubt = rng.exponential(1.0, len(risk))
    confidence = 1.0 - np.minimum(0.5, said * doubt)
    agrees = rng.random(len(risk)) >= np.minimum(1.0, risk * doubt)
    chances = np.resize(np.array(chance), len(risk))
    columns = (confidence, agrees, chances)
    rows = zip(*(each.tolist() for each in columns), strict=True)
    return [Audited(number, float(number), *row) for number, row in enumerate(rows, 1)]


def watch(config: RetrainConfig | None = None, known: VersionWatch = FRESH) -> Watch:
    """Returns a watch of the release."""
    return Watch(known, PROMISED, config or RetrainConfig())


def alarms(take: Callable[[Sequence[Any]], Alarm | None], items: Sequence[Any]) -> list[Alarm]:
    """Feeds pages until one brings an alarm; returns it, or nothing."""
    for begin in range(0, len(items), PAGE):
        alarm = take(items[begin : begin + PAGE])
        if alarm is not None:
            return [alarm]
    return []


def of_counts(
    rng: np.random.Generator, rate: Shape, config: RetrainConfig | None = None
) -> list[Alarm]:
    """Returns the alarm that gate counts of a rate bring."""
    return alarms(watch(config).take_counts, counts(rng, rate))


def of_audits(
    rng: np.random.Generator, risk: Shape, config: RetrainConfig | None = None, **how: Any
) -> list[Alarm]:
    """Returns the alarm that audited samples of a risk bring."""
    return alarms(watch(config).take_audits, audits(rng, risk, **how))
