"""What is watched of the traffic is whole, of the right version, and uniform over the accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud.watching.series import Blocks, audited, keeps
from shared.scores import Floats
from tests.unit.watching.traffic import VERSION, Row


@dataclass(frozen=True)
class Columns:
    """Samples as the store returns them."""

    number: NDArray[np.int64]
    received_s: NDArray[np.float64]
    tier1: Floats
    tier2: Floats
    reason: tuple[str, ...]
    inclusion_probability: NDArray[np.float64]


def columns(*rows: tuple[str, list[float], list[float], float]) -> Columns:
    """Returns samples: why each was sent, both tiers' scores, its chance."""
    n = len(rows)
    width = len(rows[0][1]) if rows else 2
    return Columns(
        np.arange(1, n + 1),
        10.0 * np.arange(1.0, n + 1.0),
        np.array([row[1] for row in rows], np.float32).reshape(n, width),
        np.array([row[2] for row in rows], np.float32).reshape(n, width),
        tuple(row[0] for row in rows),
        np.array([row[3] for row in rows], np.float64),
    )


def row(number: int, seen: int, unsure: int, version: str = VERSION) -> Row:
    return Row(number, float(number), version, seen, unsure)


def blocks(*rows: Row, least: int = 10) -> list[tuple[int, int, int]]:
    return [(each.number, each.seen, each.unsure) for each in Blocks(least).add(rows, VERSION)]


def test_a_block_is_whole_rows_and_ends_with_the_one_that_fills_it() -> None:
    assert blocks(row(1, 4, 1), row(3, 7, 2), row(4, 3, 0)) == [(3, 11, 3)]


def test_a_large_row_is_one_block() -> None:
    assert blocks(row(1, 1000, 200)) == [(1, 1000, 200)]


def test_a_block_is_filled_over_several_readings() -> None:
    made = Blocks(10)
    assert not list(made.add([row(1, 6, 1)], VERSION))
    (block,) = made.add([row(2, 6, 2)], VERSION)
    assert (block.number, block.rate) == (2, 0.25)


@pytest.mark.parametrize(
    "broken",
    [row(1, 100, 50, "0"), row(1, 10, 11), row(1, 0, 0), row(1, -5, -5), row(1, 10, -1)],
    ids=["other-version", "more-than-all", "nothing", "negative", "negative-unsure"],
)
def test_counts_of_another_version_and_counts_that_cannot_be_are_left_out(broken: Row) -> None:
    assert blocks(broken, row(2, 10, 2)) == [(2, 10, 2)]


def test_only_what_tier1_accepted_is_taken_of_the_audit() -> None:
    found = audited(
        columns(
            ("audit", [0.9, 0.1], [0.8, 0.2], 0.25),
            ("low_confidence", [0.6, 0.4], [0.3, 0.7], 1.0),
            ("audit", [0.2, 0.8], [0.6, 0.4], 0.5),
            ("invalid_scores", [np.nan, np.nan], [0.6, 0.4], 1.0),
        )
    )
    assert [(each.number, each.received_s, each.agrees, each.chance) for each in found] == [
        (1, 10.0, True, 0.25), (3, 30.0, False, 0.5),
    ]  # fmt: skip
    assert [each.confidence for each in found] == pytest.approx([0.9, 0.8])


def test_of_nothing_nothing_is_taken() -> None:
    assert audited(columns()) == []


def test_what_has_the_smallest_chance_always_stays() -> None:
    assert all(keeps(number, chance, 0.1) for number in range(100) for chance in (0.05, 0.1))


@pytest.mark.parametrize("chance", [0.2, 0.5, 1.0])
def test_of_the_rest_the_share_stays_that_makes_all_chances_alike(chance: float) -> None:
    n, smallest = 20_000, 0.1
    kept = np.array([keeps(number, chance, smallest) for number in range(n)])
    share = smallest / chance
    # Four standard deviations of a binomial share; numbers follow each other, the draws do not.
    assert kept.mean() == pytest.approx(share, abs=4 * (share * (1 - share) / n) ** 0.5)
    together: Any = (kept[1:] & kept[:-1]).mean()
    assert together == pytest.approx(share**2, abs=4 * share / n**0.5)


def test_the_draw_is_the_same_after_a_restart() -> None:
    first = [keeps(number, 0.5, 0.1) for number in range(1000)]
    assert [keeps(number, 0.5, 0.1) for number in range(1000)] == first
