"""The cloud says what it can still do with what its sites let out."""

from __future__ import annotations

import pytest

from cloud.store import InputShares
from cloud.withheld import abilities


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        (InputShares(0, 0, 0, 0), ""),
        (InputShares(9, 0, 3, 0), ""),
        (InputShares(0, 9, 0, 3), "nothing can be retrained"),
        (InputShares(9, 0, 0, 3), "of a retrained model no threshold can be certified"),
        (InputShares(9, 3, 0, 3), "of a retrained model no threshold can be certified"),
        (InputShares(9, 0, 2, 1), "certified on the nodes whose inputs all come"),
        (InputShares(6, 3, 3, 0), "25% of the newest inputs stay on their sites"),
    ],
)
def test_it_says_what_is_left(shares: InputShares, said: str) -> None:
    assert said in abilities(shares)
    assert bool(said) == bool(abilities(shares))
