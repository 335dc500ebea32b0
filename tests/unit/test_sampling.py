"""Thinning makes a uniform sample of what came with unequal chances."""

from __future__ import annotations

import numpy as np
import pytest

from cloud.certificate.sampling import drawn_labels, uniform_rows
from shared.scores import Flags
from tests.traffic import beyond_chance


def test_samples_with_equal_chances_all_stay() -> None:
    rows = uniform_rows(np.full(100, 0.01), np.random.default_rng(1))
    assert rows.tolist() == list(range(100))


def test_the_rarest_all_stay_and_the_others_in_proportion() -> None:
    chances = np.repeat([0.01, 0.1, 1.0], [500, 50_000, 200_000])
    rows = uniform_rows(chances, np.random.default_rng(2))
    kept = np.array([(chances[rows] == each).sum() for each in (0.01, 0.1, 1.0)])
    assert kept[0] == 500
    assert not beyond_chance(int(kept[1]), 50_000, 0.1)
    assert not beyond_chance(int(kept[2]), 200_000, 0.01)
    assert (np.diff(rows) > 0).all()


def test_what_was_sent_and_stayed_is_as_the_traffic_was() -> None:
    rng = np.random.default_rng(3)
    kind = rng.choice(4, 400_000, p=[0.4, 0.3, 0.2, 0.1])
    chance = np.array([0.02, 0.1, 0.5, 1.0])[kind]
    sent = rng.random(len(kind)) < chance
    rows = uniform_rows(chance[sent], rng)
    seen = np.bincount(kind[sent][rows], minlength=4)
    for count, share in zip(seen.tolist(), (0.4, 0.3, 0.2, 0.1), strict=True):
        assert not beyond_chance(count, len(rows), share)
    # What was sent, as it is, is another traffic.
    assert np.bincount(kind[sent])[3] / sent.sum() > 0.3


def test_one_seed_draws_the_same_rows() -> None:
    chances = np.random.default_rng(4).uniform(0.01, 1, 1000)
    one, other = (uniform_rows(chances, np.random.default_rng(5)) for _ in range(2))
    assert one.tolist() == other.tolist()


def test_of_nothing_comes_nothing() -> None:
    assert len(uniform_rows(np.empty(0), np.random.default_rng(1))) == 0


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_beyond_chance_can_fail(share: float) -> None:
    assert beyond_chance(0, 1000, share)
    assert not beyond_chance(round(1000 * share), 1000, share)


# Labels of people


def labels_of(
    rng: np.random.Generator, asked_rate: float, other_rate: float
) -> tuple[Flags, Flags, Flags]:
    """Returns which of the samples are wrong, were asked for, have a label."""
    unsure = rng.random(200_000) < 0.1
    wrong = rng.random(200_000) < np.where(unsure, 0.4, 0.02)
    asked = unsure & (rng.random(200_000) < 0.5)
    labelled = rng.random(200_000) < np.where(asked, asked_rate, other_rate)
    return wrong, asked, labelled


@pytest.mark.parametrize("rates", [(0.9, 0.05), (0.5, 0.3), (0.2, 0.2)])
def test_labels_that_were_asked_for_count_no_more_than_others(rates: tuple[float, float]) -> None:
    rng = np.random.default_rng(6)
    wrong, asked, labelled = labels_of(rng, *rates)
    kept = drawn_labels(labelled, asked, rng)
    assert not (kept & ~labelled).any()
    assert not beyond_chance(int((wrong & kept).sum()), int(kept.sum()), float(wrong.mean()))
    if rates[0] != rates[1]:
        some = int(labelled.sum())
        assert beyond_chance(int((wrong & labelled).sum()), some, float(wrong.mean()))


def test_labels_that_nobody_was_asked_for_all_stay() -> None:
    rng = np.random.default_rng(7)
    _, asked, labelled = labels_of(rng, 0.5, 0.1)
    assert (drawn_labels(labelled, asked & False, rng) == labelled).all()


def test_labels_that_were_all_asked_for_say_nothing_of_the_traffic() -> None:
    rng = np.random.default_rng(8)
    _, asked, labelled = labels_of(rng, 0.5, 0.0)
    assert labelled.any()
    assert not drawn_labels(labelled, asked, rng).any()
