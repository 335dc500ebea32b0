"""The baseline is what the present model did lately."""

from __future__ import annotations

import pytest

from shared.model_spec import Calibration
from shared.releases.baseline import (
    MIN_BATCHES,
    STEP_S,
    WINDOW_S,
    Baseline,
    Promise,
    Recent,
    usual_at,
)
from shared.releases.health import Counts, Health
from tests.builders import CERTIFICATE


def no_memory() -> None:
    return None


def test_what_was_never_watched_has_no_baseline() -> None:
    assert Recent().baseline(Health(batches=100)) is None


def test_a_baseline_counts_from_the_oldest_note_that_is_kept() -> None:
    recent = Recent()
    steps = int(WINDOW_S / STEP_S)
    for step in range(steps + 5):
        recent.note(Health(batches=10 * step), step * STEP_S, no_memory)
    baseline = recent.baseline(Health(batches=10 * (steps + 5)))
    assert baseline is not None
    assert baseline.counted.batches == 10 * steps


def test_it_reads_the_memory_seldom_and_keeps_the_most() -> None:
    recent = Recent()
    readings = iter([30, 70, 50])
    for turn in range(int(3 * STEP_S)):
        recent.note(Health(), float(turn), lambda: next(readings))
    baseline = recent.baseline(Health())
    assert baseline is not None
    assert baseline.rss_bytes == 70


def test_another_model_begins_anew() -> None:
    recent = Recent()
    recent.note(Health(batches=1), 0.0, lambda: 30)
    recent.forget()
    assert recent.baseline(Health(batches=2)) is None
    recent.note(Health(batches=5), 1.0, no_memory)
    baseline = recent.baseline(Health(batches=7))
    assert baseline == Baseline(Health(batches=2), None)


def usual(batches: dict[int, int], took_s: float = 0.01) -> dict[int, float]:
    """Returns the usual times of so many batches of these sizes."""
    counts = Counts()
    for size, count in batches.items():
        for _ in range(count):
            counts.batch(size, 0, took_s, failed=False)
    return Baseline(counts.snapshot()).usual_s()


def test_the_usual_time_is_that_of_95_percent() -> None:
    counts = Counts()
    for took_s, number in ((0.001, 95), (0.1, 5)):
        for _ in range(number):
            counts.batch(1, 0, took_s, failed=False)
    assert Baseline(counts.snapshot()).usual_s() == {1: pytest.approx(0.001, rel=0.2)}


def test_a_size_that_was_seldom_has_no_usual_time() -> None:
    assert usual({1: MIN_BATCHES, 2: MIN_BATCHES - 1}).keys() == {1}


def test_a_size_that_was_seldom_goes_by_its_neighbours() -> None:
    usual_s = {3: 0.01, 5: 0.02}
    assert [usual_at(usual_s, size) for size in (1, 3, 4, 5)] == [0.01, 0.01, 0.02, 0.02]
    assert usual_at(usual_s, 6) == pytest.approx(0.08)
    assert usual_at({}, 3) is None


def test_a_release_promises_what_its_certificate_says() -> None:
    promise = Promise.of(Calibration(1.0, 0.8, CERTIFICATE), 1000)
    assert promise.escalation_share == pytest.approx(1 - CERTIFICATE.coverage)
    assert Promise.of(Calibration(1.0, 0.8), 1000) == Promise(None, 1000)
