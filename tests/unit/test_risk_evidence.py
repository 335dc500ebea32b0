"""The audit disproves a certificate that is broken, soon; and one that holds, hardly ever."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.cascade.risk_evidence import MAX_STARTS, STEP, RiskEvidence
from shared.releases.evidence import log_evidence, near

ALPHA, DELTA = 0.02, 0.05


def first_alarm(bad: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Returns after how many results it alarms, and how many of them it suspects."""
    evidence = RiskEvidence()
    for number, each in enumerate(bad.tolist(), 1):
        suspects = evidence.add(bad=each, alpha=ALPHA, delta=DELTA)
        if suspects:
            return number, suspects
    return None


def results(seed: int, *parts: tuple[float, int]) -> NDArray[np.bool_]:
    """Returns which results disagree: parts of a risk and of results."""
    rng = np.random.default_rng(seed)
    risks = np.concatenate([np.full(count, risk) for risk, count in parts])
    return rng.random(len(risks)) < risks


def test_a_risk_at_its_bound_gives_no_more_false_alarms_than_promised_however_long() -> None:
    runs = 120
    alarms = [first_alarm(results(seed, (ALPHA, 4000))) for seed in range(runs)]
    assert sum(alarm is not None for alarm in alarms) <= DELTA * runs


def test_a_risk_that_moves_below_its_bound_gives_none_either() -> None:
    swings = [(risk, 500) for risk in (0.001, 0.02, 0.005, 0.02, 0.0, 0.02)]
    alarms = [first_alarm(results(seed, *swings)) for seed in range(100)]
    assert sum(alarm is not None for alarm in alarms) <= DELTA * len(alarms)


@pytest.mark.parametrize(
    ("risk", "soon"), [(0.04, 2500), (0.05, 1200), (0.1, 200), (0.3, 60), (1.0, 5)]
)
def test_a_risk_above_its_bound_from_the_beginning_is_told(risk: float, soon: int) -> None:
    for seed in range(20):
        assert first_alarm(results(seed, (risk, soon))) is not None, f"seed {seed}"


@pytest.mark.parametrize(("risk", "soon"), [(0.05, 3000), (0.1, 600), (0.3, 120)])
def test_a_long_good_time_before_hardly_delays_it(risk: float, soon: int) -> None:
    good = 20_000
    for seed in range(10):
        alarm = first_alarm(results(seed, (0.005, good), (risk, soon)))
        assert alarm is not None, f"seed {seed}"
        assert alarm[0] > good


def test_it_suspects_what_came_since_the_change_and_little_more() -> None:
    good = 5000
    for seed in range(20):
        alarm = first_alarm(results(seed, (0.005, good), (0.2, 1000)))
        assert alarm is not None
        number, suspects = alarm
        assert number - suspects >= good - 4 * STEP, f"seed {seed}"


def test_it_takes_the_same_memory_however_much_comes() -> None:
    evidence = RiskEvidence()
    for bad in results(1, (0.015, 10 * STEP * MAX_STARTS)).tolist():
        evidence.add(bad=bad, alpha=ALPHA, delta=1e-9)
        assert len(evidence.starts) <= MAX_STARTS
    assert len(evidence.starts) == MAX_STARTS


def test_the_weights_of_all_starts_sum_to_one_at_most() -> None:
    assert sum(1 / ((number + 1) * (number + 2)) for number in range(100_000)) <= 1


@pytest.mark.parametrize("alpha", [0.001, 0.02, 0.2])
def test_under_the_bound_the_evidence_is_expected_to_stay_one(alpha: float) -> None:
    """Each result multiplies it by one on average at the bound: the sum over what may come."""
    total = 6
    expected = 0.0
    for outcome in range(2**total):
        bad = outcome.bit_count()
        chance = alpha**bad * (1 - alpha) ** (total - bad)
        expected += chance * np.exp(log_evidence(bad, total, alpha, near))
    assert expected == pytest.approx(1.0)


@pytest.mark.parametrize("alpha", [0.001, 0.02, 0.5, 0.9])
def test_the_alternatives_lie_above_the_bound_and_close_to_it(alpha: float) -> None:
    alternatives = near(alpha)
    assert all(alpha < each < 1 for each in alternatives)
    assert min(alternatives) == pytest.approx(alpha + (1 - alpha) / 256)
