"""Thresholds are tested in their order; labels of people may forbid, and promise where they may."""

from __future__ import annotations

import numpy as np
import pytest

from cloud.certificate.bound import clopper_pearson_upper, enough_trials, fewest_trials
from cloud.certificate.evidence import Evidence
from cloud.certificate.grid import Grid
from cloud.certificate.promise import Promise
from cloud.certificate.sequence import Outcome, certified
from shared.cascade.gate import decide
from shared.scores import Flags, Floats, Scored

PROMISE = Promise(alpha=0.1, delta=0.1, escalation_budget=0.3)


def grid(*thresholds: float, coverage: float = 1.0) -> Grid:
    return Grid(np.array(thresholds), np.full(len(thresholds), coverage))


def evidence(certainty: Floats, agrees: Flags, right: Flags | None = None, n: int = 0) -> Evidence:
    """Returns evidence in which the first ``n`` samples have a label."""
    labelled = np.arange(len(agrees)) < n
    return Evidence(certainty, agrees, labelled, agrees if right is None else right)


def flat(errors: int, n: int, wrong: int, labelled: int, promise: Promise = PROMISE) -> Outcome:
    """Tests one threshold that accepts all."""
    rows = np.arange(n)
    found = evidence(np.full(n, 0.9, np.float32), rows >= errors, rows >= wrong, labelled)
    return certified(found, grid(0.5), promise)


def test_testing_stops_at_the_first_failure_though_a_later_one_would_pass() -> None:
    # Between 0.8 and 0.9 all are wrong, below 0.8 all are right: laxer thresholds recover.
    certainty = np.repeat(np.array([0.95, 0.85, 0.5], np.float32), [100, 30, 2000])
    agrees = np.repeat([True, False, True], [100, 30, 2000])
    found = evidence(certainty, agrees)
    passed = certified(found, grid(0.9, 0.8, 0.4), PROMISE).passed
    assert [candidate.threshold for candidate in passed] == [0.9]
    alone = certified(found, grid(0.4), PROMISE).passed
    assert [candidate.threshold for candidate in alone] == [0.4]


def test_a_certificate_says_what_was_seen() -> None:
    certainty = np.linspace(0, 1, 200, endpoint=False, dtype=np.float32)
    agrees = certainty >= np.float32(0.02)
    outcome = certified(evidence(certainty, agrees), grid(0.0), PROMISE)
    certificate = outcome.passed[0].certificate
    assert (certificate.n, certificate.disagreements) == (200, 4)
    assert certificate.coverage == 1.0
    assert certificate.bound == clopper_pearson_upper(4, 200, PROMISE.delta) <= PROMISE.alpha
    assert outcome.why == ""


def test_more_that_is_known_of_the_coverage_is_taken() -> None:
    found = evidence(np.full(100, 0.9, np.float32), np.full(100, True))
    outcome = certified(found, grid(0.5), PROMISE, np.array([0.77]))
    assert outcome.passed[0].certificate.coverage == 0.77


def test_too_few_samples_certify_nothing_and_it_says_how_many_it_takes() -> None:
    outcome = flat(0, fewest_trials(0.1, 0.1) - 1, 0, 0)
    assert outcome.passed == ()
    assert "accepts 21 of the samples that test it" in outcome.why
    assert "it takes 22 even if tier-2 agrees with all" in outcome.why
    assert flat(0, 22, 0, 0).passed


def test_without_a_sound_score_nothing_is_certified() -> None:
    outcome = certified(evidence(np.empty(0, np.float32), np.empty(0, bool)), grid(), PROMISE)
    assert outcome.passed == ()
    assert outcome.why == "tier-1 gave no well-formed scores"


def test_samples_are_counted_as_the_gate_decides_on_them() -> None:
    rng = np.random.default_rng(1)
    certainty = rng.choice(rng.random(40).astype(np.float32), 500)
    certainty[::7] = np.nan
    thresholds = np.sort(rng.choice(certainty[np.isfinite(certainty)], 20).astype(np.float64))[::-1]
    agrees = rng.random(500) < 0.7
    counted = evidence(certainty, agrees).accepted(thresholds)
    for place, threshold in enumerate(thresholds.tolist()):
        scores = np.tile(certainty[:, None], (1, 2))
        accepted = decide(Scored.of(scores, certainty), threshold).accepted
        assert counted.n[place] == accepted.sum()
        assert counted.disagreements[place] == (accepted & ~agrees).sum()


# Labels of people

ENOUGH = enough_trials(0.1, 0.1)


def test_enough_labels_that_agree_are_promised_too() -> None:
    certificate = flat(0, 1000, 2, ENOUGH).passed[0].certificate
    assert (certificate.labelled, certificate.wrong) == (ENOUGH, 2)
    assert certificate.label_bound == clopper_pearson_upper(2, ENOUGH, 0.1) <= 0.1


def test_too_few_labels_promise_nothing_and_forbid_nothing() -> None:
    certificate = flat(0, 1000, 1, 12).passed[0].certificate
    assert (certificate.labelled, certificate.wrong, certificate.label_bound) == (12, 1, None)


@pytest.mark.parametrize(
    ("wrong", "labelled", "says"),
    [
        pytest.param(ENOUGH // 5, ENOUGH, "so its risk may be", id="enough"),
        pytest.param(6, 12, "so its risk is at least", id="too-few-to-promise"),
    ],
)
def test_labels_that_contradict_leave_no_certificate(wrong: int, labelled: int, says: str) -> None:
    outcome = flat(0, 1000, wrong, labelled)
    assert outcome.passed == ()
    assert "people's labels contradict" in outcome.why
    assert f"tier-1 is wrong on {wrong} of {labelled} accepted samples" in outcome.why
    assert says in outcome.why


def test_enough_labels_must_confirm_what_tier2_confirms() -> None:
    # As many errors as the promise allows: no contradiction, but no proof either.
    assert flat(0, 1000, round(0.1 * ENOUGH), ENOUGH).passed == ()
    assert flat(0, 1000, round(0.1 * ENOUGH), ENOUGH - 1).passed


def test_whether_labels_are_enough_goes_by_what_the_strictest_threshold_is_to_accept() -> None:
    rows = np.arange(1000)
    found = evidence(np.full(1000, 0.9, np.float32), rows >= 0, rows >= 0, ENOUGH)
    bounds = [
        certified(found, grid(0.5, coverage=share), PROMISE).passed[0].certificate.label_bound
        for share in (1.0, 0.6)
    ]
    assert bounds[0] is not None
    assert bounds[1] is None
