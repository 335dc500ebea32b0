"""Confidence and audit agree where calibration holds; where it no longer does, they part."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cloud.certificate.bound import lower_bounds, upper_bounds
from cloud.watching.agreement import (
    Calibration,
    CertifiedRisk,
    agreement,
    expected_agreement,
)
from cloud.watching.reference import learn_audits
from cloud.watching.series import Audited
from tests.unit.watching.traffic import ALPHA, RISK, Shape, abrupt, audits, steady

RUN, MARGIN = 1e5, 0.02


def sample(confidence: float, *, agrees: bool, chance: float = 0.1) -> Audited:
    return Audited(1, 1.0, confidence, agrees, chance)


def parts_at(samples: list[Audited], reference: int = 300) -> int | None:
    """Returns at which sample confidence and audit part; None if they do not."""
    test = Calibration(learn_audits(samples[:reference]).gap, MARGIN, RUN)
    return next((n for n, each in enumerate(samples) if test.add(each)), None)


def draw(seed: int, risk: Shape, promised: Shape | None = None) -> list[Audited]:
    return audits(np.random.default_rng(seed), risk, promised=promised)


def test_of_equal_chances_the_audit_has_the_exact_interval() -> None:
    samples = [sample(0.9, agrees=n >= 7) for n in range(200)]
    found = agreement(samples, 0.05).audited
    errors, trials = np.array([193]), np.array([200])
    assert found.value == pytest.approx(0.965)
    assert found.n == 200
    assert found.lower == pytest.approx(lower_bounds(errors, trials, 0.025)[0])
    assert found.upper == pytest.approx(upper_bounds(errors, trials, 0.025)[0])


def test_the_expected_agreement_is_the_mean_confidence_with_students_interval() -> None:
    rng = np.random.default_rng(1)
    confidences = rng.uniform(0.8, 1.0, 25)
    found = expected_agreement(confidences, np.full(25, 10.0), 0.05)
    reach = 2.0639 * confidences.std(ddof=1) / 5  # the quantile for 24 degrees of freedom
    assert found.value == pytest.approx(confidences.mean())
    assert (found.lower, found.upper) == pytest.approx(
        (confidences.mean() - reach, confidences.mean() + reach), rel=1e-5
    )


def test_its_interval_holds_the_truth_as_often_as_it_says_though_nodes_audit_unlike_shares() -> (
    None
):
    rng, hits = np.random.default_rng(2), 0
    for _ in range(600):
        good = rng.random(400) < 0.7  # of the traffic: one node is sure, and audits little
        drawn = rng.random(400) < np.where(good, 0.2, 0.8)
        confidences = np.where(good, 1 - 0.02 * rng.random(400), 1 - 0.2 * rng.random(400))[drawn]
        found = expected_agreement(confidences, 1 / np.where(good, 0.2, 0.8)[drawn], 0.1)
        hits += found.lower <= 0.7 * 0.99 + 0.3 * 0.9 <= found.upper
    assert hits / 600 == pytest.approx(0.9, abs=0.04)


def test_without_weights_the_node_that_audits_most_would_decide() -> None:
    sure = [sample(0.99, agrees=True, chance=0.01)] * 50
    samples = sure + [sample(0.8, agrees=False, chance=0.5)] * 50
    found = agreement(samples)
    assert found.expected.value == pytest.approx((100 * 0.99 + 2 * 0.8) / 102)
    assert found.audited.value == pytest.approx(100 / 102)


@pytest.mark.parametrize("count", [0, 1])
def test_of_too_few_nothing_is_claimed(count: int) -> None:
    found = expected_agreement(np.full(count, 0.9), np.ones(count), 0.05)
    assert (found.lower, found.upper, found.n) == (0.0, 1.0, count)
    assert count or math.isnan(found.value)


def test_where_calibration_holds_they_do_not_part_whatever_inputs_come() -> None:
    for seed in range(8):
        # Harder inputs, and the confidence says so.
        assert parts_at(draw(seed, abrupt(30_000, RISK, 0.15, 5000))) is None


def test_a_confidence_that_always_said_too_much_is_no_drift() -> None:
    for seed in range(8):
        assert parts_at(draw(seed, steady(30_000, 0.05), steady(30_000, 0.02))) is None


def test_inputs_that_mean_something_else_make_them_part_though_the_confidence_stays() -> None:
    places = []
    for seed in range(12):
        samples = draw(seed, abrupt(5000, RISK, 0.12, 2000), steady(5000, RISK))
        place = parts_at(samples)
        assert place is not None
        places.append(place)
    assert min(places) >= 2000
    assert float(np.median(places)) < 2000 + 250


def test_the_words_have_both_estimates() -> None:
    samples = draw(1, abrupt(5000, RISK, 0.5, 2000), steady(5000, RISK))
    test = Calibration(0.0, MARGIN, RUN)
    finding = next(filter(None, map(test.add, samples)))
    assert finding.test == "calibration"
    assert (
        "of the last 1000 audited inputs that tier-1 accepted, tier-2 agrees with" in finding.words
    )
    assert "where tier-1's confidence says 98." in finding.words


def test_more_risk_than_was_certified_is_found_and_at_the_bound_itself_hardly_ever() -> None:
    for seed in range(5):
        test = CertifiedRisk(ALPHA, RUN)
        assert not any(map(test.add, draw(seed, steady(10_000, 0.04))))
        finding = next(filter(None, map(test.add, draw(seed, steady(2000, 0.15)))))
        assert finding.words.endswith("that tier-1 accepted, where at most 5.0% were certified")
