"""What a release did in the beginning, as later samples are held against it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cloud.watching.reference import LEAST_CONFIDENCE_SPREAD, learn_audits, learn_rate, share_of
from cloud.watching.series import Audited, Block
from tests.unit.watching.traffic import audits, steady


def test_of_a_share_of_none_or_all_one_more_or_one_less_is_assumed() -> None:
    assert share_of(0, 100).mean == 0.0
    assert share_of(0, 100).deviation == pytest.approx(math.sqrt(0.01 * 0.99))
    assert share_of(100, 100).deviation == pytest.approx(share_of(0, 100).deviation)
    assert share_of(20, 100).deviation == pytest.approx(0.4)


def test_a_rate_spreads_at_least_as_chance_alone_makes_it() -> None:
    alike = learn_rate([Block(n, 0.0, 10, 2) for n in range(100)])
    assert (alike.mean, alike.deviation) == pytest.approx((0.2, 0.4 / math.sqrt(10)))


def test_nodes_that_differ_spread_it_more() -> None:
    mixed = learn_rate([Block(n, 0.0, 10, 9 * (n % 2)) for n in range(100)])
    assert mixed.mean == pytest.approx(0.45)
    assert mixed.deviation == pytest.approx(0.45, rel=0.01)


def test_the_audits_are_thinned_to_their_smallest_chance() -> None:
    rng = np.random.default_rng(1)
    sure = audits(rng, steady(4000, 0.0), chance=[0.01])
    unsure = [Audited(n, 0.0, 0.5, False, 0.04) for n in range(4001, 8001)]
    found = learn_audits([*sure, *unsure])
    assert found.chance == 0.01
    assert found.disagreement.mean == pytest.approx(1000 / 5000, abs=0.02)


def test_confidences_that_are_all_alike_still_have_a_spread() -> None:
    found = learn_audits([Audited(n, 0.0, 0.99, True, 0.1) for n in range(300)])
    assert found.confidence.deviation == LEAST_CONFIDENCE_SPREAD
    assert found.disagreement.deviation > 0


def test_the_gap_is_what_the_confidence_says_too_much_and_never_below_none() -> None:
    samples = [Audited(n, 0.0, 0.95, n % 10 > 0, 0.1) for n in range(300)]
    assert learn_audits(samples).gap == pytest.approx(0.05)
    assert learn_audits([Audited(n, 0.0, 0.95, True, 0.1) for n in range(300)]).gap == 0.0
