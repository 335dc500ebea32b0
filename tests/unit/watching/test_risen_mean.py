"""The test for a risen mean keeps its promise on false alarms, and does not tire."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud.watching.risen_mean import BETS, RisenMean

SEEDS = 400


def runs(values: NDArray[Any], limit: float, run: float) -> list[int]:
    """Returns how many values each row takes until an alarm; all of them where none comes."""
    found = []
    for row in values.tolist():
        test = RisenMean(limit, run)
        found.append(next((n for n, value in enumerate(row, 1) if test.add(value)), len(row)))
    return found


def test_the_evidence_is_a_sum_of_bets_that_were_begun_at_every_sample() -> None:
    rng = np.random.default_rng(1)
    limit, values = 0.03, rng.random(40) - 0.3
    sums = [
        math.fsum(
            math.prod(1 + bet * (value - limit) / (1 + limit) for value in values[begin:])
            for begin in range(len(values))
        )
        for bet in BETS
    ]
    whole = math.fsum(sums) / len(sums)
    for run, expected in ((whole * (1 - 1e-9), True), (whole * (1 + 1e-9), False)):
        test = RisenMean(limit, run)
        assert [test.add(value) for value in values.tolist()][-1] is expected


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, shape: (rng.random(shape) < 0.05) * 1.0,
        lambda rng, shape: rng.uniform(-0.9, 1.0, shape),
        lambda rng, shape: np.where(rng.random(shape) < 0.525, 1.0, -1.0),
    ],
    ids=["rare", "wide", "widest"],
)
def test_at_the_limit_itself_false_alarms_are_as_rare_as_was_promised(draw: object) -> None:
    rng, run = np.random.default_rng(2), 200.0
    values = draw(rng, (SEEDS, 4000))  # type: ignore[operator]
    lengths = np.array(runs(values, 0.05, run))
    # The promise is of the mean; cut off at 4000, it is rather too small.
    error = lengths.std() / math.sqrt(SEEDS)
    assert lengths.mean() > run - 3 * error


def test_a_rise_is_seen_as_soon_after_a_long_time_without() -> None:
    rng, after = np.random.default_rng(3), 2000
    rise = (rng.random((60, after)) < 0.2) * 1.0
    quiet = (rng.random((60, 4000)) < 0.02) * 1.0
    fresh: NDArray[Any] = np.array(runs(rise, 0.05, 1e4))
    late: NDArray[Any] = np.array(runs(np.hstack([quiet, rise]), 0.05, 1e4)) - 4000
    assert (late > 0).all()
    assert np.median(late) <= np.median(fresh) + 5
    assert np.quantile(late, 0.95) < 150


def test_what_stays_below_the_limit_is_no_alarm_in_a_hundred_thousand_samples() -> None:
    values = (np.random.default_rng(4).random((5, 100_000)) < 0.03) * 1.0
    assert runs(values, 0.05, 1e5) == [100_000] * 5
