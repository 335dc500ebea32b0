"""What is expected of a message's size is never less than it has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cascade.config import EscalationConfig
from shared.cascade.sizes import (
    MAX_HEAD_BYTES,
    MAX_ID_CHARACTERS,
    MAX_SAMPLE_BYTES,
    MAX_TIMESTAMP_CHARACTERS,
    MAX_VERSION_CHARACTERS,
    cut,
    head_bytes,
    sample_bytes,
)
from shared.messages import EscalatedSample, Escalation, Tensor, Timestamp, pack
from shared.topics import MAX_NAME

DROP = "\U0001f4a7"  # four bytes of UTF-8
LARGEST = 2**63 - 1


def sample(
    name: str = DROP * MAX_ID_CHARACTERS,
    sensor: str = DROP * MAX_NAME,
    timestamp: Timestamp = DROP * MAX_TIMESTAMP_CHARACTERS,
) -> EscalatedSample:
    return EscalatedSample(LARGEST, name, sensor, timestamp, "invalid_scores", True, 1.0)


def message(count: int, shape: tuple[int, ...], each: EscalatedSample) -> Escalation:
    rows, scores = np.zeros((count, *shape), np.float32), np.zeros((count, 300), np.float32)
    return Escalation(
        1, "n" * MAX_NAME, "p" * MAX_NAME, DROP * MAX_VERSION_CHARACTERS, 1.0, LARGEST, LARGEST,
        (each,) * count, Tensor.of(rows), Tensor.of(scores), "r" * MAX_NAME, True, True,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(3,), (1, 1, 1, 1, 1, 1, 70_000)], ids=["flat", "deep"])
@pytest.mark.parametrize("count", [1, 20])
def test_the_largest_names_are_accounted_for(shape: tuple[int, ...], count: int) -> None:
    numbers = 4 * (int(np.prod(shape)) + 300)
    whole = message(count, shape, sample())
    bound = MAX_HEAD_BYTES + count * (numbers + MAX_SAMPLE_BYTES)
    assert bound * 0.9 <= len(pack(whole)) <= bound


@given(st.text(max_size=134), st.text(max_size=64), st.one_of(st.floats(), st.text(max_size=128)))
def test_what_a_sample_takes_is_what_it_adds_to_a_message(
    name: str, sensor: str, timestamp: Timestamp
) -> None:
    each = sample(name, sensor, timestamp)
    whole = message(2, (3,), each)
    names = (whole.node, whole.pipeline, whole.model_version, whole.reply_to)
    numbers = 2 * 4 * 303
    assert len(pack(whole)) <= head_bytes(*names) + numbers + 2 * sample_bytes(each)


@pytest.mark.parametrize("limit", [2**14, 2**16, 2**19])
@pytest.mark.parametrize("width", [3, 561])
def test_as_many_samples_as_a_message_may_hold_fit_it(limit: int, width: int) -> None:
    config = EscalationConfig(max_message_bytes=limit, max_batch_samples=65_536)
    count = config.samples_a_message(4 * (width + 300))
    assert count > 1
    assert len(pack(message(count, (width,), sample()))) <= limit


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        pytest.param([], [], id="none"),
        pytest.param([10, 10, 10], [3], id="all"),
        pytest.param([40, 40, 40], [2, 1], id="by-bytes"),
        pytest.param([1] * 9, [4, 4, 1], id="by-count"),
        pytest.param([500, 10, 500, 500], [1, 1, 1, 1], id="too-large-for-any"),
    ],
)
def test_samples_are_cut_into_messages(sizes: list[int], expected: list[int]) -> None:
    parts = cut(sizes, 20, 100, 4)
    assert [part.stop - part.start for part in parts] == expected
    assert [row for part in parts for row in range(part.start, part.stop)] == [*range(len(sizes))]
