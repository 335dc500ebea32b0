"""A mean that stays gives no more alarms than promised; one that moves is told soon."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from shared.cascade.page_hinkley import DriftLimits, PageHinkley, threshold_for

BATCH = 16
TOLERANCE = 0.02
LIMITS = DriftLimits(TOLERANCE, threshold_for(TOLERANCE, 1e7), 1000)


def alarms(totals: NDArray[np.floating], limits: DriftLimits = LIMITS) -> list[int]:
    """Returns after which batches it alarms."""
    detector = PageHinkley()
    return [
        number
        for number, total in enumerate(totals.tolist())
        if detector.update(BATCH, total, limits)
    ]


def rates(seed: int, *parts: tuple[float, int]) -> NDArray[np.floating]:
    """Returns how many of each batch were escalated: parts of a probability and of samples."""
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [rng.binomial(BATCH, rate, samples // BATCH).astype(float) for rate, samples in parts]
    )


@pytest.mark.parametrize("rate", [0.02, 0.2, 0.5])
def test_a_rate_that_stays_gives_no_more_false_alarms_than_promised(rate: float) -> None:
    promised, samples, seeds = 100_000.0, 200_000, 10
    limits = DriftLimits(TOLERANCE, threshold_for(TOLERANCE, promised), 1000)
    found = [len(alarms(rates(seed, (rate, samples)), limits)) for seed in range(seeds)]
    # Twenty are promised at most; that many more than three deviations above are chance no longer.
    most = seeds * samples / promised
    assert sum(found) <= most + 3 * math.sqrt(most)


def test_at_its_default_a_rate_that_stays_gives_none_in_two_million_samples() -> None:
    assert [alarms(rates(seed, (0.3, 400_000))) for seed in range(5)] == [[]] * 5


@pytest.mark.parametrize(
    ("before", "after", "soon"), [(0.1, 0.2, 1600), (0.3, 0.2, 1600), (0.2, 0.6, 320)]
)
def test_a_rate_that_jumps_is_told_soon_whichever_way(
    before: float, after: float, soon: int
) -> None:
    for seed in range(20):
        found = alarms(rates(seed, (before, 20_000), (after, soon)))
        assert len(found) >= 1, f"seed {seed}"
        assert found[0] * BATCH >= 20_000


def test_a_rate_that_creeps_is_told() -> None:
    for seed in range(10):
        steps = [(0.1 + 0.2 * step / 100, 160) for step in range(100)]
        assert alarms(rates(seed, (0.1, 20_000), *steps)), f"seed {seed}"


def test_what_moves_within_the_tolerance_has_not_drifted() -> None:
    for seed in range(5):
        assert alarms(rates(seed, (0.1, 20_000), (0.115, 200_000))) == []


def test_a_mean_confidence_that_sinks_is_told() -> None:
    rng = np.random.default_rng(3)
    high, low = rng.beta(18, 2, (1250, BATCH)), rng.beta(15, 5, (100, BATCH))
    found = alarms(np.concatenate([high, low]).sum(axis=1))
    assert found
    assert 1250 <= found[0] < 1350


def test_nothing_is_said_before_there_are_samples_enough() -> None:
    limits = DriftLimits(TOLERANCE, 1.0, 1000)
    totals = rates(1, (0.0, 480), (1.0, 4800))
    assert alarms(totals, limits)[0] == math.ceil(1000 / BATCH) - 1


def test_after_an_alarm_the_new_mean_is_the_one_to_leave() -> None:
    found = alarms(rates(4, (0.1, 20_000), (0.5, 200_000)))
    assert len(found) == 1


def test_batches_of_any_size_give_the_same_sums() -> None:
    totals = rates(5, (0.3, 4800))
    small, large = PageHinkley(), PageHinkley()
    for total in totals.tolist():
        small.update(BATCH, total, LIMITS)
    large.update(BATCH * len(totals), float(totals.sum()), LIMITS)
    assert small.count == large.count
    assert small.mean == pytest.approx(large.mean)


def test_it_goes_on_after_a_restart_as_if_there_had_been_none() -> None:
    totals = rates(6, (0.1, 20_000), (0.3, 1600)).tolist()
    whole, first = PageHinkley(), PageHinkley()
    for total in totals[:1250]:
        whole.update(BATCH, total, LIMITS)
        first.update(BATCH, total, LIMITS)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(first), type=PageHinkley)
    for total in totals[1250:]:
        assert whole.update(BATCH, total, LIMITS) == again.update(BATCH, total, LIMITS)
    assert again == whole


def test_what_has_seen_nothing_is_read_back_too() -> None:
    empty = msgspec.msgpack.decode(msgspec.msgpack.encode(PageHinkley()), type=PageHinkley)
    assert empty == PageHinkley()


@pytest.mark.parametrize("tolerance", [0.005, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("samples", [1e3, 1e5, 1e7, 1e9])
def test_the_threshold_solves_siegmunds_formula(tolerance: float, samples: float) -> None:
    exponent = 8 * tolerance * threshold_for(tolerance, samples)  # 2 tolerance / variance
    length = (math.expm1(exponent) - exponent) * 0.25 / (2 * tolerance**2)
    assert length == pytest.approx(2 * samples, rel=1e-6)
