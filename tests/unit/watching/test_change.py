"""ADWIN and Page-Hinkley find what has changed, say what, and pass over trifles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud.watching.change import Adwin, PageHinkley, change_of_mean
from cloud.watching.finding import Finding
from cloud.watching.reference import Moments

REFERENCE = Moments(0.2, 0.4)
Series = NDArray[Any]


def found(test: Adwin | PageHinkley, values: Series) -> list[tuple[int, Finding]]:
    return [(n, finding) for n, value in enumerate(values.tolist()) if (finding := test.add(value))]


def shares(seed: int, *parts: tuple[float, int]) -> Series:
    rng = np.random.default_rng(seed)
    return np.concatenate([(rng.random(n) < share).astype(float) for share, n in parts])


@pytest.mark.parametrize("after", [0.35, 0.05], ids=["rise", "fall"])
def test_adwin_says_from_where_to_where_the_mean_has_gone(after: float) -> None:
    ((at, finding),) = found(
        Adwin("the rate", 0.002, 0.05, 32), shares(1, (0.2, 3000), (after, 700))
    )
    assert at > 3000
    before, now = (float(word.strip("%")) / 100 for word in finding.words.split() if "%" in word)
    assert before == pytest.approx(0.2, abs=0.03)
    assert now == pytest.approx(after, abs=0.06)
    assert finding.test == "adwin"


def test_adwin_passes_over_a_change_that_is_too_small_and_goes_on() -> None:
    values = shares(2, (0.2, 20_000), (0.26, 20_000), (0.6, 500))
    assert found(Adwin("the rate", 0.002, 0.0, 32), values)[0][0] < 40_000
    assert found(Adwin("the rate", 0.002, 0.2, 32), values)[0][0] >= 40_000


def test_adwin_passes_over_a_fall_where_only_a_rise_is_news() -> None:
    values = shares(3, (0.3, 2000), (0.05, 2000), (0.4, 1000))
    ((at, _),) = found(Adwin("the risk", 0.002, 0.05, 32, rises=True), values)
    assert at >= 4000


def test_page_hinkley_finds_a_slow_rise() -> None:
    rng = np.random.default_rng(4)
    values = (rng.random(30_000) < np.interp(np.arange(30_000), [10_000, 30_000], [0.2, 0.5])) * 1.0
    (at, finding), *_ = found(PageHinkley("the rate", REFERENCE, 0.25, 40), values)
    assert 10_000 < at < 22_000
    assert finding.words.startswith("the rate rose from 20.0% to ")


def test_page_hinkley_looks_one_way_only() -> None:
    rises, falls = shares(5, (0.2, 1000), (0.9, 500)), shares(5, (0.2, 1000), (0.0, 2000))
    up = PageHinkley("the rate", REFERENCE, 0.25, 40)
    assert not found(up, falls)
    down = PageHinkley("the confidence", REFERENCE, 0.25, 40, falls=True)
    assert not found(down, rises)
    ((_, finding),) = found(PageHinkley("the confidence", REFERENCE, 0.25, 40, falls=True), falls)[
        :1
    ]
    assert finding.words.startswith("the confidence fell from 20.0% to 0.0%")


def test_taken_in_groups_a_few_rare_values_by_chance_are_no_alarm() -> None:
    rare = Moments(0.01, math.sqrt(0.01 * 0.99))
    values = np.zeros(2000)
    values[[1000, 1010, 1020, 1030, 1040]] = 1.0
    assert found(PageHinkley("the risk", rare, 0.25, 30), values)
    assert not found(PageHinkley("the risk", rare, 0.25, 30, group=20), values)


def test_the_likeliest_change_is_where_two_means_leave_the_least_squares() -> None:
    rng = np.random.default_rng(6)
    for _ in range(50):
        values = rng.random(int(rng.integers(2, 40)))
        squares = [
            values[:place].var() * place + values[place:].var() * (len(values) - place)
            for place in range(1, len(values))
        ]
        place = int(np.argmin(squares)) + 1
        assert change_of_mean(values) == pytest.approx(
            (values[:place].mean(), values[place:].mean())
        )
