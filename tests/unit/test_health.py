"""What is counted while a model serves, as a probation sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.releases.health import Counts, bucket, by_size, longest_s, place
from shared.releases.memory import read_rss_bytes


def test_a_snapshot_does_not_change_when_more_is_counted() -> None:
    counts = Counts()
    counts.batch(4, 1, 0.001, failed=False)
    before = counts.snapshot()
    counts.batch(4, 1, 0.001, failed=False)
    assert (before.batches, sum(before.run_times.values())) == (1, 1)


def test_what_was_counted_since_leaves_out_what_was_before() -> None:
    counts = Counts()
    counts.batch(1, 1, 0.001, failed=True)
    counts.batch(1, 0, 0.001, failed=False)
    counts.gate(2, 1)
    counts.asked, counts.lost = 5, 2
    before = counts.snapshot()
    counts.batch(3, 2, 0.5, failed=False)
    counts.batch(1, 0, 0.001, failed=False)
    counts.gate(4, 3)
    counts.asked, counts.lost = 9, 3
    seen = counts.snapshot().since(before)
    assert (seen.batches, seen.broken_batches, seen.failed_batches) == (2, 1, 0)
    assert (seen.samples, seen.invalid_samples) == (4, 2)
    assert (seen.gated_samples, seen.unsure_samples, seen.asked, seen.lost) == (4, 3, 4, 1)
    assert seen.run_times == {place(3, 0.5): 1, place(1, 0.001): 1}


def test_a_batch_that_failed_says_nothing_of_the_run_time() -> None:
    counts = Counts()
    counts.batch(2, 2, 60.0, failed=True)
    assert counts.snapshot().run_times == {}


@given(st.integers(0, 4096), st.floats(0, 86_400))
def test_a_time_is_found_again_by_its_size_and_within_a_bucket(samples: int, took_s: float) -> None:
    (size, times), *others = by_size({place(samples, took_s): 1}).items()
    assert not others
    assert size == samples.bit_length()
    (at,) = times
    assert at == bucket(took_s)
    assert took_s <= longest_s(at) * (1 + 1e-9)
    assert longest_s(at) <= 1.19 * took_s + 1e-6


def test_the_resident_memory_is_what_the_system_says() -> None:
    rss_bytes = read_rss_bytes()
    status = Path("/proc/self/status")
    if rss_bytes is None:
        assert not status.exists()
        return
    (line,) = [each for each in status.read_text().splitlines() if each.startswith("VmRSS")]
    assert rss_bytes == pytest.approx(int(line.split()[1]) * 1024, rel=0.2)


@pytest.mark.parametrize("text", ["", "1", "1 x"])
def test_where_the_system_says_nothing_of_memory_there_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "statm").write_text(text)
    assert read_rss_bytes(tmp_path / "statm") is None
    assert read_rss_bytes(tmp_path / "gone") is None
