"""No message of questions, whatever its bytes, does more than be refused with a reason."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PayloadError
from shared.inputs import Inputs, InputSpec
from shared.messages import Escalation, Tensor, pack, unpack
from tests.builders import SHAPE, escalated
from tier2.admission import REMEMBERED, Admission

NOW_S = 100.0


def message(*numbers: int, **changes: Any) -> Escalation:
    rows = Tensor.of(np.full((len(numbers), *SHAPE), 0.5, np.float32))
    samples = tuple(escalated(number) for number in numbers)
    whole = Escalation(1, "tier1-a", "meter", "3", 500.0, 9, 2, samples, rows, rows)
    return msgspec.structs.replace(whole, **changes)


def admission() -> Admission:
    return Admission(Inputs.plain(SHAPE))


def test_questions_come_with_their_rows_and_the_time_they_have() -> None:
    first, second = admission().live(message(1, 2, recorded=True), NOW_S)
    assert (first.sample.correlation, second.sample.correlation) == (1, 2)
    assert (first.node, first.address, first.tier1_version) == ("tier1-a", "tier1-a", "3")
    assert first.due_s == NOW_S + 0.5
    assert first.row.tolist() == [0.5] * 3
    assert first.recorded


def test_bytes_are_taken_where_the_pipeline_is_of_bytes() -> None:
    reader = Admission(Inputs([InputSpec((4,), dtype="uint8")]))
    rows = Tensor.of(np.arange(4, dtype=np.uint8)[None])
    (question,) = reader.live(message(1, inputs=rows), NOW_S)
    assert question.row.dtype == np.uint8
    with pytest.raises(PayloadError, match="float32 of shape"):
        reader.live(message(2), NOW_S)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"reply_to": "a/b"}, "reply address"),
        ({"reply_to": "+"}, "reply address"),
        ({"node": ""}, "reply address"),
        ({"budget_ms": math.nan}, "budget"),
        ({"budget_ms": math.inf}, "budget"),
        ({"budget_ms": -1.0}, "budget"),
        ({"budget_ms": 1e12}, "budget"),
        ({"unsure": 10}, "counts"),
        ({"unsure": -1}, "counts"),
        ({"seen": 2**60}, "counts"),
        ({"model_version": "v" * 10_000}, "version"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(PayloadError, match=problem) as refusal:
        admission().live(message(1, **changes), NOW_S)
    assert refusal.value.reason == "bad_escalation"


@pytest.mark.parametrize("chance", [0.0, -0.5, 1.5, math.nan])
def test_a_chance_that_is_none_is_refused(chance: float) -> None:
    sample = msgspec.structs.replace(escalated(1), inclusion_probability=chance)
    with pytest.raises(PayloadError, match="chance"):
        admission().live(message(1, samples=(sample,)), NOW_S)


@pytest.mark.parametrize(
    "changes",
    [{"id": "x" * 135}, {"sensor": "x" * 65}, {"timestamp": "x" * 129}],
    ids=lambda changes: next(iter(changes)),
)
def test_names_that_are_longer_than_any_are_refused(changes: dict[str, str]) -> None:
    sample = msgspec.structs.replace(
        escalated(1), **{key: value[1:] for key, value in changes.items()}
    )
    assert len(admission().live(message(1, samples=(sample,)), NOW_S)) == 1
    sample = msgspec.structs.replace(escalated(1), **changes)
    with pytest.raises(PayloadError, match="name"):
        admission().live(message(1, samples=(sample,)), NOW_S)


@pytest.mark.parametrize("shape", [(2,), (2, 0), (2, 1), (2, 2, 2), (1, 3)])
def test_scores_are_of_two_labels_or_more_for_each_sample(shape: tuple[int, ...]) -> None:
    with pytest.raises(PayloadError, match="float32 of shape"):
        admission().live(message(1, 2, probabilities=Tensor.of(np.zeros(shape, np.float32))), NOW_S)


def test_what_was_refused_is_no_repetition_when_it_comes_sound() -> None:
    reader = admission()
    with pytest.raises(PayloadError):
        reader.live(message(1, budget_ms=-1.0), NOW_S)
    assert len(reader.live(message(1), NOW_S)) == 1
    assert reader.live(message(1), NOW_S) == []


def test_the_memory_of_what_came_before_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert REMEMBERED > 3
    monkeypatch.setattr("tier2.admission.REMEMBERED", 3)
    reader = admission()
    for number in range(5):
        assert len(reader.live(message(number), NOW_S)) == 1
    assert reader.live(message(4), NOW_S) == []
    assert len(reader.live(message(0), NOW_S)) == 1


SOUND = pack(message(1, 2))


@given(st.binary(max_size=200))
def test_any_bytes_end_as_questions_or_a_refusal(payload: bytes) -> None:
    _read(payload)


@given(st.integers(0, len(SOUND) - 1), st.binary(min_size=1, max_size=9), st.booleans())
def test_any_damage_to_a_sound_message_ends_as_questions_or_a_refusal(
    place: int, damage: bytes, is_late: bool
) -> None:
    _read(SOUND[:place] + damage + SOUND[place + len(damage) :], is_late=is_late)
    _read(SOUND[:place], is_late=is_late)


def _read(payload: bytes, *, is_late: bool = False) -> None:
    try:
        escalation = unpack(payload, Escalation)
        questions = admission().late(escalation) if is_late else admission().live(escalation, NOW_S)
    except PayloadError:
        return
    assert all(question.row.shape == SHAPE for question in questions)
