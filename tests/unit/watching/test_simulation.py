"""Whole watches on simulated traffic: no false alarms, and no long wait for a true one.

Means over several seeds; what a larger simulation gives is in docs/retraining.md.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cloud.watching.config import DriftConfig, RetrainConfig
from cloud.watching.state import Alarm
from tests.unit.watching.traffic import (
    RATE,
    RISK,
    Shape,
    abrupt,
    gradual,
    of_audits,
    of_counts,
    steady,
)

Draw = Callable[[np.random.Generator], list[Alarm]]
FEW_LABELS_AT, FEW_SAMPLES_AT = 2000, 10_000


def delays(draw: Draw, at: int, seeds: int = 10) -> list[int]:
    """Returns how many samples after a change each seed alarms; none alarms before, or never."""
    found = []
    for seed in range(seeds):
        (alarm,) = draw(np.random.default_rng(seed))
        assert alarm.number > at, alarm
        found.append(alarm.number - at)
    return found


@pytest.mark.parametrize("rate", [0.02, RATE])
def test_gate_counts_that_stay_as_they_were_bring_no_alarm(rate: float) -> None:
    for seed in range(4):
        assert not of_counts(np.random.default_rng(seed), steady(100_000, rate))


@pytest.mark.parametrize("chance", [(0.1,), (0.01, 0.2)], ids=["one-share", "unlike-shares"])
def test_audits_that_stay_as_they_were_bring_no_alarm(chance: tuple[float, ...]) -> None:
    for seed in range(2):
        assert not of_audits(np.random.default_rng(seed), steady(50_000, RISK), chance=chance)


def test_a_confidence_that_always_said_too_much_brings_none() -> None:
    for seed in range(2):
        rng, n = np.random.default_rng(seed), 30_000
        assert not of_audits(rng, steady(n, 0.04), promised=steady(n, 0.01))


@pytest.mark.parametrize(
    ("rate", "most"),
    [
        (lambda n: abrupt(n, RATE, 0.3, FEW_SAMPLES_AT), 1500),
        (lambda n: abrupt(n, RATE, 0.4, FEW_SAMPLES_AT), 500),
        (lambda n: abrupt(n, RATE, 0.1, FEW_SAMPLES_AT), 3000),
        (lambda n: gradual(n, RATE, 0.4, FEW_SAMPLES_AT, 20_000), 9000),
    ],
    ids=["rises-by-half", "doubles", "halves", "doubles-slowly"],
)
def test_another_escalation_rate_is_found(rate: Callable[[int], Shape], most: int) -> None:
    assert np.median(delays(lambda rng: of_counts(rng, rate(40_000)), FEW_SAMPLES_AT)) < most


@pytest.mark.parametrize(
    ("risk", "most"),
    [
        (lambda n: abrupt(n, RISK, 0.06, FEW_LABELS_AT), 150),
        (lambda n: gradual(n, RISK, 0.1, FEW_LABELS_AT, 4000), 1500),
    ],
    ids=["at-once", "slowly"],
)
def test_harder_inputs_are_found_by_the_confidence(risk: Callable[[int], Shape], most: int) -> None:
    assert np.median(delays(lambda rng: of_audits(rng, risk(8000)), FEW_LABELS_AT)) < most


@pytest.mark.parametrize(
    ("risk", "most"),
    [
        (lambda n: abrupt(n, RISK, 0.1, FEW_LABELS_AT), 400),
        (lambda n: abrupt(n, RISK, 0.2, FEW_LABELS_AT), 150),
        (lambda n: gradual(n, RISK, 0.1, FEW_LABELS_AT, 4000), 3000),
    ],
    ids=["at-once", "much-at-once", "slowly"],
)
def test_what_the_confidence_cannot_see_is_found_by_the_audit(
    risk: Callable[[int], Shape], most: int
) -> None:
    def draw(rng: np.random.Generator) -> list[Alarm]:
        return of_audits(rng, risk(8000), promised=steady(8000, RISK))

    assert np.median(delays(draw, FEW_LABELS_AT)) < most


def test_a_release_that_was_never_as_certified_is_found_though_it_does_not_change() -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        (alarm,) = of_counts(rng, steady(5000, 0.4))
        assert alarm.test == "binomial"
        (alarm,) = of_audits(rng, steady(5000, 0.12))
        assert alarm.test == "risk"


def test_a_surer_configuration_is_slower() -> None:
    def median(threshold: float) -> float:
        drift = DriftConfig(page_hinkley_threshold=threshold, adwin_delta=1e-9)
        config = RetrainConfig(drift=drift, margin=0.9)
        changed = abrupt(40_000, RATE, 0.3, FEW_SAMPLES_AT)
        return float(np.median(delays(lambda rng: of_counts(rng, changed, config), FEW_SAMPLES_AT)))

    assert median(20.0) < median(60.0)
