"""The gate accepts what is sure and sound, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.cascade.gate import Decisions, decide, inclusion_probability
from shared.scores import Floats, score, well_formed

NAN = float("nan")


def of(rows: Floats, threshold: float, audited: Sequence[int] = ()) -> Decisions:
    return decide(score(rows, "probabilities", 1.0, "max_probability"), threshold, audited)


def one(row: list[float], *, threshold: float = 0.8, audited: bool = False) -> Decisions:
    return of(np.array([row], np.float32), threshold, [0] if audited else [])


def test_a_confident_sample_is_answered_here_and_tier2_does_not_see_it() -> None:
    decision = one([0.05, 0.9, 0.05])
    assert decision.accepted.tolist() == [True]
    assert decision.reason(0) == "confident"
    assert decision.labels.tolist() == [1]
    assert decision.confidences.tolist() == [pytest.approx(0.9)]
    assert decision.asked() == []


def test_confidence_at_the_threshold_itself_is_enough() -> None:
    assert one([0.5, 0.5], threshold=0.5).accepted[0]


def test_an_unsure_sample_is_asked_and_sure_to_be_seen() -> None:
    decision = one([0.3, 0.4, 0.3])
    assert decision.accepted.tolist() == [False]
    assert decision.reason(0) == "low_confidence"
    assert decision.asked() == [0]
    assert inclusion_probability(by_audit=False, audit_share=0.1) == 1.0


def test_an_audited_sample_is_answered_here_and_seen_by_tier2_too() -> None:
    decision = one([0.05, 0.9, 0.05], audited=True)
    assert decision.accepted.tolist() == [True]
    assert list(decision.audited) == [0]
    assert decision.reason(0) == "audit"
    assert decision.asked() == [0]
    assert inclusion_probability(by_audit=True, audit_share=0.1) == pytest.approx(0.1)


def test_the_audit_draws_unsure_samples_alike_and_leaves_their_reason() -> None:
    decision = one([0.3, 0.4, 0.3], audited=True)
    assert list(decision.audited) == [0]
    assert decision.accepted.tolist() == [False]
    assert decision.reason(0) == "low_confidence"


@pytest.mark.parametrize(
    "row",
    [
        pytest.param([NAN, 0.9, 0.1], id="nan"),
        pytest.param([0.9, 0.9, 0.9], id="wrong-sum"),
        pytest.param([0.0, 0.0, 0.0], id="all-zero"),
        pytest.param([1.4, -0.4, 0.0], id="negative"),
        pytest.param([float("inf"), 0.0, 0.0], id="infinite"),
    ],
)
@pytest.mark.parametrize("threshold", [0.0, 0.8])
def test_a_malformed_score_is_never_an_easy_sample(row: list[float], threshold: float) -> None:
    decision = one(row, threshold=threshold)
    assert decision.accepted.tolist() == [False]
    assert decision.reason(0) == "invalid_scores"
    assert decision.confidences.tolist() == [0.0]
    assert decision.asked() == [0]


def test_an_empty_batch_gives_no_decisions() -> None:
    decisions = of(np.zeros((0, 3), np.float32), 0.8)
    assert decisions.accepted.tolist() == decisions.asked() == []


def test_a_threshold_above_one_accepts_nothing() -> None:
    assert not one([1.0, 0.0, 0.0], threshold=2.0).accepted[0]


def test_what_is_asked_comes_in_order_and_once() -> None:
    sure, unsure = [0.05, 0.9, 0.05], [0.3, 0.4, 0.3]
    rows = np.array([sure, unsure, sure, unsure], np.float32)
    assert of(rows, 0.8, [0, 1]).asked() == [0, 1, 3]
    assert of(rows, 0.8).asked() == [1, 3]
    assert of(rows, 0.1, [2]).asked() == [2]


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 8), st.integers(1, 5)),
        elements=st.floats(width=32) | st.sampled_from([0.0, 0.5, 1.0]),
    ),
    st.floats(0, 1),
    st.sets(st.integers(0, 7)),
)
def test_whatever_the_scores_each_sample_gets_one_decision_and_only_sound_ones_are_accepted(
    rows: Floats, threshold: float, drawn: set[int]
) -> None:
    audited = sorted(row for row in drawn if row < len(rows))
    decisions = of(rows, threshold, audited)
    sound, accepted = well_formed(rows), decisions.accepted
    assert not (accepted & ~sound).any()
    assert (decisions.confidences[accepted] >= np.float32(threshold)).all()
    assert decisions.asked() == sorted({*np.flatnonzero(~accepted).tolist(), *audited})
    for row in range(len(rows)):
        assert (decisions.reason(row) == "invalid_scores") == (not sound[row])
