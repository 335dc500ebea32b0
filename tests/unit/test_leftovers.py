"""What could not be asked is collected within a bound and written into messages that fit."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cascade.config import BudgetConfig, EscalationConfig
from shared.cascade.leftovers import Batch, Leftovers
from shared.cascade.sizes import (
    MAX_ID_CHARACTERS,
    MAX_TIMESTAMP_CHARACTERS,
    head_bytes,
    sample_bytes,
)
from shared.messages import EscalatedSample, Escalation, pack
from shared.topics import MAX_NAME
from tests.builders import escalated

FIRST = -5
SAMPLE_BYTES = 24  # three features and three scores
EACH_BYTES = SAMPLE_BYTES + sample_bytes(escalated(0))
HEAD = head_bytes("tier1-a", "meter", "1") + MAX_NAME


def batch(*numbers: int, version: str = "1", labels: int = 3, width: int = 3) -> Batch:
    rows = np.repeat(np.array(numbers, np.float32)[:, None], width, axis=1)
    scores = np.zeros((len(numbers), labels), np.float32)
    return Batch([escalated(number) for number in numbers], rows, scores, version)


def make(config: EscalationConfig | None = None) -> Leftovers:
    return Leftovers("tier1-a", "meter", config or EscalationConfig(), FIRST)


def named() -> st.SearchStrategy[EscalatedSample]:
    """Samples with names of any length, up to the longest of a sensor."""
    names = st.sampled_from(["", "a", "äöü", "\U0001f4a7" * MAX_ID_CHARACTERS])
    times = st.one_of(st.just(1.5e9), st.just("\U0001f4a7" * MAX_TIMESTAMP_CHARACTERS))
    return st.builds(
        EscalatedSample, st.just(0), names, st.just("s" * MAX_NAME), times,
        st.just("low_confidence"), st.booleans(), st.just(1.0),
    )  # fmt: skip


def features(messages: Sequence[Escalation]) -> list[list[float]]:
    return [message.inputs.array()[:, 0].tolist() for message in messages]


def test_pieces_of_one_model_share_a_message_in_their_order() -> None:
    leftovers = make()
    assert [leftovers.add(batch(1, 2)), leftovers.add(batch(3))] == [2, 1]
    assert len(leftovers) == 3
    (message,) = leftovers.take()
    assert features([message]) == [[1.0, 2.0, 3.0]]
    assert [sample.id for sample in message.samples] == ["id-1", "id-2", "id-3"]
    assert message.backlog
    assert (message.node, message.pipeline, message.model_version) == ("tier1-a", "meter", "1")
    assert (message.seen, message.unsure) == (0, 0)
    assert message.probabilities.array().shape == (3, 3)


def test_questions_are_numbered_below_zero_and_no_number_comes_twice() -> None:
    leftovers = make()
    leftovers.add(batch(1, 2))
    first = leftovers.take()
    leftovers.add(batch(3))
    second = leftovers.take()
    numbers = [sample.correlation for each in (*first, *second) for sample in each.samples]
    assert numbers == [-5, -6, -7]


def test_what_was_handed_out_is_gone() -> None:
    leftovers = make()
    leftovers.add(batch(1))
    leftovers.take()
    assert len(leftovers) == 0
    assert leftovers.take() == []


@pytest.mark.parametrize("other", [{"version": "2"}, {"labels": 4}], ids=["version", "labels"])
def test_what_came_of_another_model_travels_apart(other: dict[str, str]) -> None:
    leftovers = make()
    leftovers.add(batch(1))
    leftovers.add(batch(2, **other))  # type: ignore[arg-type]
    leftovers.add(batch(3))
    assert features(leftovers.take()) == [[1.0, 3.0], [2.0]]


def test_it_holds_a_messages_worth_and_takes_the_first_of_more() -> None:
    leftovers = make(EscalationConfig(max_message_bytes=10 * EACH_BYTES + 2 * HEAD))
    assert leftovers.add(batch(*range(8))) == 8
    assert not leftovers.full
    assert leftovers.add(batch(8, 9, 0, 1, 2)) == 2
    assert leftovers.full
    assert leftovers.add(batch(3)) == 0
    assert len(leftovers) == 10
    leftovers.take()
    assert not leftovers.full


@given(data=st.data())
def test_what_it_writes_is_bounded_whatever_the_samples_are_called(data: st.DataObject) -> None:
    limit = data.draw(st.integers(1024, 20_000))
    most = data.draw(st.integers(1, 9))
    leftovers = make(EscalationConfig(max_message_bytes=limit, max_batch_samples=most))
    taken = 0
    for _ in range(data.draw(st.integers(1, 5))):
        labels = data.draw(st.integers(2, 4))
        samples = data.draw(st.lists(named(), min_size=1, max_size=30))
        rows = np.zeros((len(samples), 3), np.float32)
        scores = np.zeros((len(samples), labels), np.float32)
        taken += leftovers.add(Batch(samples, rows, scores, data.draw(st.sampled_from("äb"))))
    messages = [msgspec.structs.replace(each, reply_to="r" * MAX_NAME) for each in leftovers.take()]
    assert sum(len(message.samples) for message in messages) == taken
    sizes = [len(pack(message)) for message in messages]
    assert sum(sizes) <= limit or taken == 1
    assert all(len(message.samples) <= most for message in messages)


def test_a_sample_larger_than_a_message_travels_alone() -> None:
    leftovers = make(EscalationConfig(max_message_bytes=1024))
    assert leftovers.add(batch(1, 2, width=1000)) == 1
    assert leftovers.full
    assert features(leftovers.take()) == [[1.0]]


def test_messages_are_bounded_in_samples() -> None:
    leftovers = make(EscalationConfig(max_batch_samples=2))
    leftovers.add(batch(1, 2, 3, 4, 5))
    assert features(leftovers.take()) == [[1.0, 2.0], [3.0, 4.0], [5.0]]


def test_messages_are_bounded_in_bytes() -> None:
    leftovers = make(EscalationConfig(budget=BudgetConfig(bytes_per_minute=4 * 2048)))
    leftovers.add(batch(*range(30)))
    messages = leftovers.take()
    assert len(messages) > 1
    assert all(len(pack(message)) <= 2048 for message in messages)


@pytest.mark.parametrize(
    ("budget", "size"),
    [
        (BudgetConfig(samples_per_minute=8), 2),
        (BudgetConfig(samples_per_minute=1), 1),
        (BudgetConfig(bytes_per_minute=4 * (HEAD + 3 * EACH_BYTES)), 3),
    ],
    ids=["samples", "at-least-one", "bytes"],
)
def test_no_message_takes_more_than_a_quarter_of_the_budget(
    budget: BudgetConfig, size: int
) -> None:
    leftovers = make(EscalationConfig(budget=budget))
    leftovers.add(batch(*range(6)))
    assert [len(message.samples) for message in leftovers.take()] == [size] * (6 // size)
