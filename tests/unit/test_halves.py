"""A message that is too large goes as two: the same questions, each once."""

from __future__ import annotations

import numpy as np
import pytest

from shared.cascade.halves import halves
from shared.messages import Escalation, Tensor
from tests.builders import escalated


def message(count: int) -> Escalation:
    rows = np.arange(count * 6, dtype=np.uint8).reshape(count, 3, 2)
    scores = np.arange(count * 4, dtype=np.float32).reshape(count, 4)
    samples = tuple(escalated(number) for number in range(count))
    return Escalation(
        1, "tier1-a", "meter", "3", 500.0, 9, 2, samples, Tensor.of(rows), Tensor.of(scores),
        "tier1-a.w1",
    )  # fmt: skip


@pytest.mark.parametrize("count", [2, 3, 8])
def test_the_halves_are_the_whole(count: int) -> None:
    whole = message(count)
    first, second = halves(whole)
    assert first.samples + second.samples == whole.samples
    assert 0 <= len(second.samples) - len(first.samples) <= 1
    for name in ("inputs", "probabilities"):
        parts = [getattr(half, name).array() for half in (first, second)]
        assert np.array_equal(np.concatenate(parts), getattr(whole, name).array())
    assert (first.seen, first.unsure, second.seen, second.unsure) == (9, 2, 0, 0)
    assert {half.reply_to for half in (first, second)} == {"tier1-a.w1"}


@pytest.mark.parametrize("count", [0, 1])
def test_one_sample_has_no_halves(count: int) -> None:
    assert halves(message(count)) == ()


def test_it_can_be_halved_down_to_single_samples() -> None:
    parts = [message(7)]
    while any(len(part.samples) > 1 for part in parts):
        parts = [half for part in parts for half in (halves(part) or (part,))]
    assert [part.samples[0].correlation for part in parts] == list(range(7))
    assert sum(part.seen for part in parts) == 9
