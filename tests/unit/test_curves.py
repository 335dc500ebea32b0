"""Risk-coverage curves and the areas below them, against second ways to compute them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloud.certificate.curves import Curve
from shared.scores import Flags, Floats

Weighted = tuple[Floats, Flags, NDArray[np.float64]]

SAMPLES = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9, 1.0]), st.booleans(), st.floats(0.5, 100)),
    min_size=1,
    max_size=40,
)


def columns(samples: list[tuple[float, bool, float]]) -> Weighted:
    certainty, errors, weights = (np.array(column) for column in zip(*samples, strict=True))
    return certainty.astype(np.float32), errors, weights


@given(SAMPLES)
def test_each_point_is_what_its_threshold_accepts(samples: list[tuple[float, bool, float]]) -> None:
    certainty, errors, weights = columns(samples)
    curve = Curve.of(certainty, errors, weights)
    assert curve.thresholds.tolist() == sorted(set(certainty.tolist()), reverse=True)
    for place, threshold in enumerate(curve.thresholds):
        accepted = certainty >= np.float32(threshold)
        wrong = weights[accepted & errors].sum()
        assert curve.coverage[place] == pytest.approx(weights[accepted].sum() / weights.sum())
        assert curve.risk[place] == pytest.approx(wrong / weights[accepted].sum())
        assert curve.generalized_risk[place] == pytest.approx(wrong / weights.sum())


@given(SAMPLES)
def test_augrc_is_its_closed_form(samples: list[tuple[float, bool, float]]) -> None:
    # (1 - a)^2 / 2 + a (1 - a) (1 - f), pair by pair.
    certainty, errors, weights = columns(samples)
    bad, good = weights[errors].sum() / weights.sum(), weights[~errors].sum() / weights.sum()
    below = certainty[errors][:, None] < certainty[~errors][None, :]
    tied = certainty[errors][:, None] == certainty[~errors][None, :]
    pairs = weights[errors][:, None] * weights[~errors][None, :] / weights.sum() ** 2
    mistaken = (pairs * (1 - below - tied / 2)).sum()  # a (1 - a) (1 - f)
    assert Curve.of(certainty, errors, weights).augrc == pytest.approx(bad**2 / 2 + mistaken)
    assert good + bad == pytest.approx(1)


def test_augrc_is_the_mean_of_the_cumulated_errors() -> None:
    # A second implementation: sample by sample, without ties and weights.
    rng = np.random.default_rng(1)
    certainty, errors = rng.permutation(500).astype(np.float32), rng.random(500) < 0.2
    undetected, area, before = 0, 0.0, 0.0
    for row in np.argsort(-certainty):
        undetected += int(errors[row])
        area += (before + undetected / 500) / 2 / 500
        before = undetected / 500
    assert Curve.of(certainty, errors, np.ones(500)).augrc == pytest.approx(area)


def test_aurc_is_the_mean_risk_of_the_most_certain() -> None:
    rng = np.random.default_rng(2)
    certainty, errors = rng.permutation(500).astype(np.float32), rng.random(500) < 0.2
    order = np.argsort(-certainty)
    risks = [errors[order][: k + 1].mean() for k in range(500)]
    assert Curve.of(certainty, errors, np.ones(500)).aurc == pytest.approx(np.mean(risks))


def test_perfect_certainty_has_the_smallest_areas_there_are() -> None:
    n, wrong = 100_000, 20_000
    errors = np.arange(n) < wrong
    best = Curve.of(np.arange(n, dtype=np.float32), errors, np.ones(n))
    share = wrong / n
    assert best.augrc == pytest.approx(share**2 / 2)
    assert best.aurc == pytest.approx(share + (1 - share) * np.log(1 - share), abs=1e-4)
    worst = Curve.of(-np.arange(n, dtype=np.float32), errors, np.ones(n))
    assert worst.augrc == pytest.approx(share - share**2 / 2)


def test_certainty_that_knows_nothing_leaves_half_of_the_errors_undetected() -> None:
    errors = np.arange(100) < 30
    curve = Curve.of(np.full(100, 0.5, np.float32), errors, np.ones(100))
    assert curve.augrc == pytest.approx(0.15)
    assert curve.aurc == pytest.approx(0.3)


@given(SAMPLES, st.integers(2, 5))
def test_a_weight_is_a_number_of_equal_samples(
    samples: list[tuple[float, bool, float]], times: int
) -> None:
    certainty, errors, _ = columns(samples)
    counts = 1 + np.arange(len(errors)) % times
    weighted = Curve.of(certainty, errors, counts.astype(np.float64))
    repeated = Curve.of(
        np.repeat(certainty, counts), np.repeat(errors, counts), np.ones(counts.sum())
    )
    assert weighted.augrc == pytest.approx(repeated.augrc)
    assert weighted.aurc == pytest.approx(repeated.aurc)


def test_what_was_audited_with_a_weight_shows_the_curve_of_all() -> None:
    rng = np.random.default_rng(3)
    certainty = rng.random(200_000).astype(np.float32)
    errors = rng.random(200_000) > certainty
    chance = np.where(certainty >= 0.6, 0.05, 1.0)
    sent = rng.random(200_000) < chance
    found = Curve.of(certainty[sent], errors[sent], 1 / chance[sent])
    whole = Curve.of(certainty, errors, np.ones(200_000))
    assert found.augrc == pytest.approx(whole.augrc, abs=0.004)
    unweighted = Curve.of(certainty[sent], errors[sent], np.ones(sent.sum()))
    assert abs(unweighted.augrc - whole.augrc) > 0.05
