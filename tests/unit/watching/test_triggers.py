"""A training needs a cause, time since the last, and enough new labels; it says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloud.watching.config import DAY_S, RetrainConfig
from cloud.watching.triggers import Facts, decide

NOTHING = Facts(
    now_s=1_000_000.0,
    began_s=0.0,
    tried_s=None,
    trained_s=None,
    drift="",
    samples=10**6,
    audits=10**6,
)
DRIFT = replace(NOTHING, drift="30% of 609 samples escalated where 19% were certified")
CONFIG = RetrainConfig(audits=570, cool_down_s=600.0)


def test_without_a_cause_nothing_is_trained_however_much_there_is() -> None:
    assert decide(NOTHING, CONFIG) == decide(replace(NOTHING, audits=0), CONFIG)
    assert decide(NOTHING, CONFIG).act == "rest"


@pytest.mark.parametrize(
    ("facts", "config", "cause"),
    [
        (DRIFT, CONFIG, "drift: 30% of 609 samples escalated where 19% were certified"),
        (replace(NOTHING, samples=5000), RetrainConfig(after_samples=5000), "5000 new samples"),
        (replace(NOTHING, now_s=2 * DAY_S), RetrainConfig(every_s=2 * DAY_S), "2 days have passed"),
        (replace(NOTHING, now_s=90.0), RetrainConfig(every_s=90.0), "90 seconds have passed"),
        (replace(NOTHING, now_s=5400.0), RetrainConfig(every_s=5400.0), "90 minutes have passed"),
    ],
    ids=["drift", "count", "days", "seconds", "minutes"],
)
def test_each_cause_says_why(facts: Facts, config: RetrainConfig, cause: str) -> None:
    decision = decide(facts, config)
    assert (decision.act, decision.causes) == ("train", (cause,))


def test_all_causes_are_said() -> None:
    config = RetrainConfig(after_samples=100, every_s=60.0)
    assert len(decide(DRIFT, config).causes) == 3


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        ({"samples": 4999}, RetrainConfig(after_samples=5000)),
        ({"now_s": 99.0}, RetrainConfig(every_s=100.0)),
        ({"now_s": 199.0, "trained_s": 100.0}, RetrainConfig(every_s=100.0)),
    ],
    ids=["count", "timer", "timer-since-the-last"],
)
def test_a_cause_that_is_not_there_yet_is_none(
    changes: dict[str, float], config: RetrainConfig
) -> None:
    assert decide(replace(NOTHING, **changes), config).act == "rest"  # type: ignore[arg-type]


def test_after_a_training_it_waits_whatever_the_cause() -> None:
    trained = replace(DRIFT, trained_s=DRIFT.now_s - 599.0)
    assert decide(trained, CONFIG).act == "cool_down"
    assert decide(replace(trained, trained_s=DRIFT.now_s - 600.0), CONFIG).act == "train"


def test_after_one_that_failed_it_waits_as_long_and_the_timer_goes_on_from_the_one_before() -> None:
    tried = replace(DRIFT, tried_s=DRIFT.now_s - 599.0, trained_s=5.0)
    assert decide(tried, CONFIG).act == "cool_down"
    assert decide(replace(tried, tried_s=DRIFT.now_s - 600.0), CONFIG).act == "train"
    timer = replace(NOTHING, now_s=1000.0, tried_s=900.0, trained_s=100.0)
    config = RetrainConfig(every_s=900.0, cool_down_s=100.0)
    assert decide(timer, config).act == "train"


@pytest.mark.parametrize("config", [CONFIG, RetrainConfig(after_samples=100, every_s=60.0)])
def test_no_cause_trains_on_too_few_audits(config: RetrainConfig) -> None:
    short = replace(DRIFT, audits=569)
    assert decide(short, config).act == "collect"
    assert decide(replace(short, audits=570), config).act == "train"
