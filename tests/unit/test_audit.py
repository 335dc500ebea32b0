"""The audit draws each sample with the same chance, independently of the batches it comes in."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cascade.audit import Audit


def drawn(audit: Audit, sizes: list[int]) -> list[int]:
    """Returns which samples are audited, by their number in the whole stream."""
    found, first = [], 0
    for size in sizes:
        found += [first + place for place in audit.draw(size)]
        first += size
    return found


@pytest.mark.parametrize(("share", "expected"), [(0.0, []), (1.0, list(range(10)))])
def test_a_share_of_one_audits_all_and_of_none_nothing(share: float, expected: list[int]) -> None:
    assert drawn(Audit(share, random.Random(1)), [3, 0, 7]) == expected


@given(st.lists(st.integers(0, 40), max_size=30), st.floats(0.001, 1), st.integers(0, 2**32))
def test_what_is_drawn_does_not_depend_on_how_the_samples_are_batched(
    sizes: list[int], share: float, seed: int
) -> None:
    batched = drawn(Audit(share, random.Random(seed)), sizes)
    singly = drawn(Audit(share, random.Random(seed)), [1] * sum(sizes))
    assert batched == singly


@pytest.mark.parametrize("share", [0.01, 0.2, 0.7])
def test_the_share_is_kept_and_one_draw_says_nothing_of_the_next(share: float) -> None:
    count = 200_000
    chosen = drawn(Audit(share, random.Random(7)), [64] * (count // 64))
    total = count // 64 * 64
    # Five standard deviations of a binomial: a fair audit fails once in two million seeds.
    allowed = 5 * (share * (1 - share) / total) ** 0.5
    assert abs(len(chosen) / total - share) < allowed
    after = sum(1 for one, other in itertools.pairwise(chosen) if other == one + 1)
    allowed = 5 * (share * (1 - share) / len(chosen)) ** 0.5
    assert abs(after / (len(chosen) - 1) - share) < allowed
