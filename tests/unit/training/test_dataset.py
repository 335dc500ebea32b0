"""Who teaches, who tells when to stop, who only tests; and what each weighs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from cloud.certificate.sampling import uniform_rows
from cloud.training.contract import (
    AUDIT,
    BASE,
    ESCALATED,
    NOISY,
    NOT_LABELLED,
    Samples,
)
from cloud.training.dataset import (
    Lesson,
    Telemetry,
    Weighing,
    answered,
    first_lesson,
    importance,
    later_lesson,
    outranked,
    replay,
    weighed,
)
from cloud.training.telemetry import read_telemetry, write_telemetry
from shared.errors import StorageError
from shared.scores import Floats
from tests.training_data import KIND, labelled

PLAIN = Weighing(balances=False, bound=1e9)
AUDIT_SHARE = 0.25


def teacher(inputs: Floats) -> Floats:
    """Says the first of three labels, whatever it is asked."""
    return np.tile(np.array([0.7, 0.2, 0.1], np.float32), (len(inputs), 1))


def telemetry(count: int = 120, seed: int = 1) -> Telemetry:
    """Every fourth sample is of the audit; of those and of the others some were accepted."""
    rng = np.random.default_rng(seed)
    audit = np.arange(count) % 4 == 0
    accepted = audit & (rng.random(count) < 0.6)
    return Telemetry(
        inputs=np.arange(6 * count, dtype=np.float32).reshape(count, 6),
        tier2=rng.dirichlet(np.ones(3), count).astype(np.float32),
        audit=audit,
        inclusion_probability=np.where(accepted, AUDIT_SHARE, 1.0),
        labels=np.full(count, NOT_LABELLED, np.int64),
        asked=np.zeros(count, bool),
        certifies=np.ones(count, bool),
    )


def drawn() -> np.random.Generator:
    return np.random.default_rng(1)


def of_origin(samples: Samples, origin: int) -> Samples:
    return samples.taken(samples.origin == origin)


def rows(samples: Samples) -> set[bytes]:
    return {row.tobytes() for row in samples.inputs}


# Parts


def test_what_does_not_test_teaches_beside_the_base_set() -> None:
    seen = telemetry()
    lesson = later_lesson(seen, labelled(30, 1), teacher, PLAIN, rng=drawn())
    assert len(of_origin(lesson.train, BASE).labels) == 30
    field = lesson.train.taken(lesson.train.origin != BASE)
    assert rows(field) | rows(lesson.tested) == {row.tobytes() for row in seen.inputs}
    uniform = len(uniform_rows(seen.inclusion_probability, drawn()))
    assert len(lesson.tested.labels) == uniform - uniform // 3
    assert rows(of_origin(field, AUDIT)) <= {row.tobytes() for row in seen.inputs[seen.audit]}
    assert not rows(of_origin(field, ESCALATED)) & {
        row.tobytes() for row in seen.inputs[seen.audit]
    }


def two_shares(rng: np.random.Generator, count: int = 40_000) -> tuple[Telemetry, float]:
    """Two nodes, of which one audits ten times as much and has twice the risk.

    Returns what both have sent, and the share of the traffic that has the second label.
    """
    node = np.arange(count) % 2
    share = np.where(node == 0, 0.4, 0.04)
    accepted = rng.random(count) < 0.6
    second = rng.random(count) < np.where(node == 0, 0.1, 0.3) * np.where(accepted, 1.0, 2.0)
    audit = rng.random(count) < share
    sent = audit | ~accepted
    answers = np.eye(3, dtype=np.float32)[second.astype(int)]
    nobody = np.full(int(sent.sum()), NOT_LABELLED, np.int64)
    seen = Telemetry(
        inputs=np.zeros((int(sent.sum()), 6), np.float32), tier2=answers[sent], audit=audit[sent],
        inclusion_probability=np.where(accepted, share, 1.0)[sent], labels=nobody,
        asked=np.zeros(len(nobody), bool), certifies=np.ones(len(nobody), bool),
    )  # fmt: skip
    return seen, float(second.mean())


def test_what_certifies_is_a_uniform_sample_where_nodes_audit_different_shares() -> None:
    """On pooled audits, the node that audits ten times as much would count ten times as much."""
    shares, truths, pooled = [], [], []
    for seed in range(20):
        seen, truth = two_shares(np.random.default_rng(seed))
        lesson = later_lesson(seen, labelled(3, 1), teacher, PLAIN, rng=np.random.default_rng(seed))
        shares.append((lesson.tested.answers == 1).mean())
        pooled.append((seen.tier2[seen.audit].argmax(axis=1) == 1).mean())
        truths.append(truth)
        assert 0.025 * 40_000 / 2 < len(lesson.tested.labels) < 0.055 * 40_000
    error = np.std(shares) / np.sqrt(len(shares))
    assert np.mean(shares) == pytest.approx(np.mean(truths), abs=4 * error)
    assert abs(np.mean(pooled) - np.mean(truths)) > 10 * error


def test_of_a_node_that_keeps_inputs_to_itself_no_sample_certifies_and_all_teach() -> None:
    seen = telemetry()
    half = np.arange(120) < 60
    lesson = later_lesson(
        replace(seen, certifies=half), labelled(3, 1), teacher, PLAIN, rng=drawn()
    )
    assert len(lesson.certifying.labels)
    assert rows(lesson.tested) <= {row.tobytes() for row in seen.inputs[half]}
    assert {row.tobytes() for row in seen.inputs[~half]} <= rows(lesson.train)


def test_people_s_labels_certify_but_not_those_that_were_asked_for_because_it_is_hard() -> None:
    seen = replace(telemetry(1200), labels=np.full(1200, 1))
    every = later_lesson(seen, labelled(3, 1), teacher, PLAIN, rng=drawn())
    tuned = len(every.tuning.labels)
    assert (every.people[:tuned] == NOT_LABELLED).all()
    assert (every.people[tuned:] == 1).all()
    asked = replace(seen, asked=np.ones(1200, bool))
    none = later_lesson(asked, labelled(3, 1), teacher, PLAIN, rng=drawn())
    assert (none.people == NOT_LABELLED).all()
    assert len(none.people) == len(none.tested.labels)


def lessons() -> list[Lesson]:
    first = first_lesson(
        labelled(30, 1), labelled(80, 2), teacher, PLAIN, kind=KIND, rng=np.random.default_rng(1)
    )
    return [first, later_lesson(telemetry(), labelled(30, 1), teacher, PLAIN, rng=drawn())]


@pytest.mark.parametrize("lesson", lessons(), ids=["first", "later"])
def test_what_certifies_neither_teaches_nor_tunes(lesson: Lesson) -> None:
    certifying, tuning = rows(lesson.certifying), rows(lesson.tuning)
    assert not certifying & rows(lesson.train)
    assert not certifying & tuning
    assert certifying | tuning == rows(lesson.tested)
    assert len(certifying) == 3 * len(tuning) > 0


def test_tier1_learns_first_from_answers_to_the_base_set_and_to_noisy_copies() -> None:
    lesson = lessons()[0]
    assert len(of_origin(lesson.train, BASE).labels) == 30
    assert len(of_origin(lesson.train, NOISY).labels) == 60
    assert lesson.train.teacher is not None


def test_the_certificate_is_about_what_tier2_says_whatever_people_say() -> None:
    lesson = lessons()[0]
    assert (lesson.tested.answers == 0).all()
    assert set(lesson.tuning.targets) == {0, 1, 2} == set(lesson.tuning.answers)


# Labels of people


def test_a_label_of_a_person_becomes_the_answer_and_is_as_sure_as_the_teacher_was() -> None:
    samples = answered(labelled(9, 1), teacher)
    corrected = outranked(samples)
    assert corrected.teacher is not None
    assert samples.teacher is not None
    assert_array_equal(corrected.answers, samples.labels)
    assert_allclose(corrected.teacher.max(axis=1), samples.teacher.max(axis=1))
    assert_allclose(corrected.teacher.sum(axis=1), 1, atol=1e-6)
    assert (samples.answers == 0).all()  # the original is as it was


def test_where_nobody_said_anything_the_teacher_stands() -> None:
    unlabelled = replace(labelled(9, 1), labels=np.full(9, NOT_LABELLED))
    samples = answered(unlabelled, teacher)
    assert_array_equal(outranked(samples).teacher, samples.teacher)
    assert_array_equal(samples.targets, samples.answers)


def test_labels_that_come_from_the_field_correct_what_teaches() -> None:
    seen = replace(telemetry(), labels=np.full(120, 2))
    lesson = later_lesson(seen, labelled(3, 1), teacher, PLAIN, rng=drawn())
    assert (of_origin(lesson.train, ESCALATED).answers == 2).all()
    assert (lesson.tuning.answers == 2).all()
    assert set(lesson.tested.answers) == {0, 1, 2}


# Weights


@given(st.integers(0, 2**31))
@settings(deadline=None)
def test_a_weighted_mean_over_what_teaches_is_that_of_the_traffic(seed: int) -> None:
    """The traffic is known; of the accepted, seven in ten, only the audit is sent."""
    rng = np.random.default_rng(seed)
    accepted = rng.random(4000) < 0.7
    value = np.where(accepted, 1.0, 5.0)
    audit = rng.random(4000) < AUDIT_SHARE
    sent = audit | ~accepted
    seen = Telemetry(
        inputs=value[sent, None].astype(np.float32),
        tier2=np.full((int(sent.sum()), 3), 1 / 3, np.float32),
        audit=audit[sent],
        inclusion_probability=np.where(accepted, AUDIT_SHARE, 1.0)[sent],
        labels=np.full(int(sent.sum()), NOT_LABELLED),
        asked=np.zeros(int(sent.sum()), bool),
        certifies=np.ones(int(sent.sum()), bool),
    )
    nothing = labelled(3, 1).taken(slice(0, 0))
    nothing = replace(nothing, inputs=nothing.inputs[:, :1])
    train = later_lesson(seen, nothing, teacher, PLAIN, rng=drawn()).train
    mean = np.average(train.inputs[:, 0], weights=train.weights)
    assert mean == pytest.approx(value.mean(), abs=0.2)
    assert abs(train.inputs.mean() - value.mean()) > 1


def test_importance_is_the_inverse_of_the_chance_up_to_a_bound() -> None:
    assert_allclose(importance(np.array([1.0, 0.5, 0.1, 1e-9]), 8.0), [1, 2, 8, 8])


def test_balanced_labels_weigh_alike_however_rare_they_are() -> None:
    samples = labelled(90, 1)
    rare = samples.taken((samples.labels != 2) | (np.arange(90) < 9))
    result = weighed(rare, Weighing(balances=True, bound=100))
    masses = [result.weights[result.labels == label].sum() for label in range(3)]
    assert_allclose(masses, masses[0], rtol=1e-5)
    assert result.weights.mean() == pytest.approx(1)


def test_a_label_is_as_rare_as_it_is_in_the_traffic() -> None:
    samples = labelled(90, 1)
    loud = replace(samples, weights=np.where(samples.labels == 0, 9, 1).astype(np.float32))
    result = weighed(loud, Weighing(balances=True, bound=100))
    assert_allclose(result.weights, 1, rtol=1e-5)


@given(
    st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=60),
    st.floats(1, 50),
    st.booleans(),
)
def test_no_weight_is_beyond_the_bound_and_all_are_one_on_the_average(
    weights: list[float], bound: float, balances: bool
) -> None:
    samples = replace(labelled(len(weights), 1), weights=np.array(weights, np.float32))
    result = weighed(samples, Weighing(balances, bound)).weights
    assert result.mean() == pytest.approx(1, rel=1e-3)
    assert np.isfinite(result).all()
    assert result.min() >= 0


# Replay


def test_a_base_set_within_the_limit_is_replayed_whole() -> None:
    samples = labelled(30, 1)
    assert replay(samples, 30, np.random.default_rng(1)) is samples


def test_of_a_larger_one_each_label_is_replayed_in_its_share() -> None:
    samples = labelled(900, 1)
    part = replay(samples, 90, np.random.default_rng(1))
    assert_array_equal(np.bincount(part.labels), [30, 30, 30])
    assert rows(part) <= rows(samples)
    other = replay(samples, 90, np.random.default_rng(2))
    assert rows(other) != rows(part)


def test_nothing_is_replayed_if_nobody_wants_it() -> None:
    assert len(replay(labelled(9, 1), 0, np.random.default_rng(1)).labels) == 0


# The file


def test_telemetry_comes_back_as_it_was_written(tmp_path: Path) -> None:
    seen = telemetry(12)
    write_telemetry(tmp_path / "job" / "telemetry.npz", seen)
    back = read_telemetry(tmp_path / "job" / "telemetry.npz")
    for name, array in vars(seen).items():
        assert_array_equal(getattr(back, name), array)


def test_telemetry_of_unequal_lengths_is_refused(tmp_path: Path) -> None:
    seen = telemetry(12)
    write_telemetry(tmp_path / "telemetry.npz", replace(seen, audit=seen.audit[:5]))
    with pytest.raises(StorageError, match="not of one length"):
        read_telemetry(tmp_path / "telemetry.npz")
