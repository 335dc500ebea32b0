"""The monitor alarms at drift, once, and at nothing less."""

from __future__ import annotations

import numpy as np
import pytest

from cloud.config import RetrainConfig
from cloud.retraining import EscalationMonitor

CONFIG = RetrainConfig(window=200, margin=0.1, p_value=1e-6)


@pytest.fixture
def monitor() -> EscalationMonitor:
    monitor = EscalationMonitor(CONFIG)
    monitor.begin("1", 0.2)
    return monitor


def feed(monitor: EscalationMonitor, rate: float, batches: int, version: str = "1") -> list[bool]:
    return [monitor.add(version, 20, round(20 * rate), 5.0) for _ in range(batches)]


def test_drift_raises_the_alarm_once(monitor: EscalationMonitor) -> None:
    raised = feed(monitor, 0.2, 20) + feed(monitor, 0.8, 20)
    assert raised.count(True) == 1
    assert raised.index(True) > 20
    alarm = monitor.alarm
    assert alarm is not None
    assert alarm.rate > 0.3
    assert (alarm.expected, alarm.since) == (0.2, 5.0)
    assert 200 <= alarm.samples < 220


def test_the_certified_rate_raises_none(monitor: EscalationMonitor) -> None:
    rng = np.random.default_rng(1)
    for unsure in rng.binomial(20, 0.2, 2000):
        assert not monitor.add("1", 20, int(unsure), 5.0)
    assert monitor.alarm is None


def test_a_trifle_raises_none_however_sure_it_is() -> None:
    monitor = EscalationMonitor(RetrainConfig(window=100_000, margin=0.1, p_value=0.01))
    monitor.begin("1", 0.2)
    assert not monitor.add("1", 100_000, 29_000, 5.0)
    assert monitor.add("1", 100_000, 31_000, 5.0)


def test_a_few_samples_raise_none_however_far_they_are(monitor: EscalationMonitor) -> None:
    assert not any(feed(monitor, 1.0, 9))
    assert feed(monitor, 1.0, 1) == [True]


def test_old_samples_leave_the_window(monitor: EscalationMonitor) -> None:
    feed(monitor, 0.0, 1000)
    assert any(feed(monitor, 1.0, 10))


def test_counts_of_another_version_do_not_count(monitor: EscalationMonitor) -> None:
    assert not any(feed(monitor, 1.0, 100, version="0"))


@pytest.mark.parametrize(("seen", "unsure"), [(10, 11), (0, 0), (-5, -5), (10, -1)])
def test_counts_that_cannot_be_are_left_out(
    monitor: EscalationMonitor, seen: int, unsure: int
) -> None:
    for _ in range(100):
        assert not monitor.add("1", seen, unsure, 5.0)
    assert feed(monitor, 0.2, 20).count(True) == 0


def test_a_new_release_begins_anew(monitor: EscalationMonitor) -> None:
    feed(monitor, 1.0, 20)
    assert monitor.alarm is not None
    monitor.begin("2", 0.2)
    assert monitor.alarm is None
    assert not any(feed(monitor, 1.0, 9, version="2"))
    assert feed(monitor, 1.0, 1, version="2") == [True]


def test_a_release_without_a_certificate_escalates_everything_and_alarms_never() -> None:
    monitor = EscalationMonitor(CONFIG)
    monitor.begin("1", 1.0)
    assert not any(feed(monitor, 1.0, 50))
