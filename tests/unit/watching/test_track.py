"""A series says the same after a restart, wherever that was, and is of bounded length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from cloud.watching.finding import Finding
from cloud.watching.track import Track

NEEDED, LONGEST = 4, 20


@dataclass(frozen=True)
class Item:
    number: int
    value: int


class SumPast:
    """Finds something once its items sum to more than so much above the reference."""

    def __init__(self, reference: int) -> None:
        self.limit, self.sum = reference + 100, 0

    def __call__(self, item: Item) -> Finding | None:
        self.sum += item.value
        return Finding("risk", f"{self.sum} at {item.number}") if self.sum > self.limit else None


def learn(items: Sequence[Item]) -> int:
    return max(item.value for item in items)


def track(after: int = 0, reference: int | None = None) -> Track[Item, int]:
    return Track(
        after, reference, learn=learn, needed=NEEDED, tests=lambda found: (SumPast(found),),
        longest=LONGEST,
    )  # fmt: skip


def items(*values: int) -> list[Item]:
    """Returns items with numbers that have gaps, as a store's have."""
    return [Item(3 * place + 1, value) for place, value in enumerate(values)]


def findings(one: Track[Item, int], rows: Sequence[Item]) -> list[tuple[int, str]]:
    return [(row.number, found.words) for row in rows if (found := one.add(row))]


def test_the_tests_begin_with_the_reference_and_see_what_it_was_learned_from() -> None:
    one = track()
    assert not findings(one, items(50, 40, 60))
    assert one.reference is None
    assert findings(one, items(50)) == [(1, "200 at 1")]
    assert one.reference == 60


@pytest.mark.parametrize("restarts", [[n] for n in range(1, 60, 7)] + [[5, 6, 30, 31, 58]])
def test_a_restart_anywhere_changes_nothing(restarts: list[int]) -> None:
    rows = items(*([7, 1, 3, 2] * 14), 70, 1, 1)
    whole = findings(track(), rows)
    assert whole
    one, said = track(), []
    for place, row in enumerate(rows):
        if place in restarts:
            one = track(one.after, one.reference)
            findings(one, [each for each in rows[:place] if each.number > one.after])
        said += findings(one, [row])
    assert said == whole


def test_past_its_length_the_older_half_is_let_go_of() -> None:
    one, rows = track(), items(*range(LONGEST + 1))
    findings(one, rows[:-1])
    assert one.after == 0
    findings(one, rows[-1:])
    assert one.after == rows[LONGEST // 2 - 1].number
