"""A plan that contradicts itself is refused, with the fix."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cloud.rollout.plan import RolloutPlan, Wave

ALL = {"share": 1}


def plan(**fields: Any) -> RolloutPlan:
    return RolloutPlan.model_validate(fields, strict=False)


def test_the_default_is_one_of_each_class_then_5_25_and_100_percent() -> None:
    default = RolloutPlan()
    assert [wave.share for wave in default.waves] == [0.0, 0.05, 0.25, 1.0]
    assert default.canaries_per_class == 1


@pytest.mark.parametrize(
    ("fields", "problem", "fix"),
    [
        pytest.param(
            {"waves": [{"share": 0.5}, {"share": 0.5}, ALL]},
            "a wave of share 0.5 is followed by one of 0.5",
            "growing order",
            id="no-growth",
        ),
        pytest.param(
            {"waves": [{"share": 0.5}, {"share": 0.25}, ALL]},
            "a wave of share 0.5 is followed by one of 0.25",
            "growing order",
            id="shrinking",
        ),
        pytest.param(
            {"waves": [{"share": 0.5}]},
            "the last wave has a share of 0.5",
            "end with `{share: 1}`",
            id="not-everybody",
        ),
        pytest.param(
            {"waves": [{"share": 0}, ALL], "canaries_per_class": 0},
            "means the canaries alone, and canaries_per_class is 0",
            "leave that wave out",
            id="canaries-of-none",
        ),
    ],
)
def test_a_contradiction_is_told_with_its_fix(
    fields: dict[str, Any], problem: str, fix: str
) -> None:
    with pytest.raises(ValidationError, match=problem) as told:
        plan(**fields)
    (error,) = told.value.errors()
    assert fix in error["ctx"]["fix"]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"waves": []}, id="no-waves"),
        pytest.param({"waves": [{"share": i / 21} for i in range(22)]}, id="too-many-waves"),
        pytest.param({"waves": [{"share": 1.1}]}, id="share"),
        pytest.param({"waves": [{"share": 1, "soak_s": -1}]}, id="soak"),
        pytest.param({"deadline_s": 0}, id="deadline"),
        pytest.param({"min_success": 0}, id="min-success"),
        pytest.param({"min_success": 1.1}, id="min-success-above-1"),
        pytest.param({"abort_share": 0}, id="abort-share"),
        pytest.param({"abort_min_executed": 0}, id="abort-min"),
        pytest.param({"canaries_per_class": -1}, id="canaries"),
        pytest.param({"soak": 5}, id="unknown-key"),
    ],
)
def test_a_value_out_of_range_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        plan(**fields)


@pytest.mark.parametrize(
    ("share", "number"), [(0.0, 0), (0.05, 0), (0.1, 0), (0.25, 0), (0.5, 1), (0.9, 1), (1.0, 2)]
)
def test_a_share_is_in_the_wave_that_it_has_reached_whatever_plan_it_came_from(
    share: float, number: int
) -> None:
    changed = RolloutPlan(waves=(Wave(share=0.1), Wave(share=0.5), Wave(share=1)))
    assert changed.number(share) == number
