"""The light detector of a node alarms where river's does, on the same streams."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from river import drift

from shared.cascade.page_hinkley import DriftLimits, PageHinkley, threshold_for

LIMITS = DriftLimits(0.02, threshold_for(0.02, 1e5), 500)
BATCH = 32


def streams() -> dict[str, NDArray[np.floating]]:
    """Returns rates and confidences that stay, jump, creep and swing."""
    rng = np.random.default_rng(11)

    def rate(means: NDArray[np.floating]) -> NDArray[np.floating]:
        return (rng.random(len(means)) < means).astype(float)

    jumps = np.repeat([0.1, 0.3, 0.15, 0.6, 0.55], 6000)
    return {
        "stays": rate(np.full(30_000, 0.3)),
        "jumps": rate(jumps),
        "creeps": rate(np.linspace(0.05, 0.6, 30_000)),
        "swings": rate(0.3 + 0.25 * np.sin(np.arange(30_000) / 1500)),
        "confidence": rng.beta(40 * (1 - jumps), 40 * jumps),
    }


STREAMS = streams()


def rivers(values: NDArray[np.floating]) -> list[int]:
    """Returns after how many samples river's alarms."""
    detector = drift.PageHinkley(
        min_instances=LIMITS.min_samples,
        delta=LIMITS.tolerance,
        threshold=LIMITS.threshold,
        alpha=1.0,
    )
    found = []
    for number, value in enumerate(values.tolist(), 1):
        detector.update(value)
        if detector.drift_detected:
            found.append(number)
    return found


def ours(values: NDArray[np.floating], batch: int) -> list[int]:
    """Returns after how many samples ours alarms, fed in batches."""
    detector, found = PageHinkley(), []
    for start in range(0, len(values) - len(values) % batch, batch):
        if detector.update(batch, float(values[start : start + batch].sum()), LIMITS):
            found.append(start + batch)
    return found


@pytest.mark.parametrize("name", STREAMS)
def test_fed_one_by_one_it_alarms_at_the_very_same_samples(name: str) -> None:
    assert ours(STREAMS[name], 1) == rivers(STREAMS[name])


def test_the_streams_have_something_to_tell() -> None:
    assert [len(rivers(STREAMS[name])) > 0 for name in STREAMS] == [False, *[True] * 4]


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "swings"])
def test_fed_in_batches_it_gives_the_same_alarms_within_four_batches(name: str) -> None:
    """An alarm comes at the end of its batch; the next one counts from there, and so on."""
    theirs = rivers(STREAMS[name])
    found = ours(STREAMS[name], BATCH)
    assert len(found) == len(theirs)
    assert all(abs(one - other) <= 4 * BATCH for one, other in zip(found, theirs, strict=True))


def test_where_the_mean_never_rests_it_alarms_as_often_in_batches() -> None:
    """Each alarm begins anew at another sample, so that the later ones lie elsewhere."""
    theirs = rivers(STREAMS["swings"])
    found = ours(STREAMS["swings"], BATCH)
    assert abs(len(found) - len(theirs)) <= 1
    assert abs(found[0] - theirs[0]) <= 4 * BATCH
