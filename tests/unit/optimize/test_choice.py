"""What is kept follows from the rows alone."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from cloud.optimize.choice import choose, gain, missed, refusal
from cloud.optimize.rows import Budget, Row
from shared.errors import ArtefactError
from tests.small_nets import figures

BUDGET = Budget()


def row(name: str, size: float = 0.26, **found: Any) -> Row:
    return Row(
        name=name, precision="int8", bytes=int(1000 * size), size=size, figures=figures(**found)
    )


FP32 = row("fp32", 1.0)
QUICK = row("quick", speed_1=1.4, speed_32=2.0)


def kept(*rows: Row, budget: Budget = BUDGET) -> str:
    return choose(rows, budget).kept.name


def test_what_gains_most_within_the_budget_is_kept_and_says_its_figures() -> None:
    choice = choose([FP32, QUICK, row("level")], BUDGET)
    assert choice.kept.name == "quick"
    assert choice.why.startswith("quick is kept: 0.260 of the size, 1.40x as fast at one sample")
    assert [each.reason for each in choice.rows] == [
        "quick gains more or agrees more", "", "quick gains more or agrees more",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        pytest.param({"speed_1": 0.96}, "slower than fp32 at one sample: 0.96x", id="slower"),
        pytest.param({"accuracy": 0.944}, "costs 0.60 points of accuracy, over 0.5", id="wrong"),
        pytest.param(
            {"accuracy": None, "source_accuracy": None, "agreement": 0.99},
            "costs 1.00 points of agreement with fp32, over 0.5",
            id="disagrees-where-there-are-no-labels",
        ),
        pytest.param(
            {"neighbour_shift": 0.0123}, "moved by 0.0123, over 0.001", id="minds-its-neighbours"
        ),
    ],
)
def test_a_candidate_over_the_budget_is_never_kept_and_says_why(
    found: dict[str, Any], reason: str
) -> None:
    bad = row("bad", 0.01, **{"speed_1": 9.0, "speed_32": 9.0, **found})
    choice = choose([FP32, bad], BUDGET)
    assert choice.kept.name == "fp32"
    assert reason in choice.rows[1].reason
    assert choice.why == "fp32 is kept: no candidate gains anything within the budget"


@pytest.mark.parametrize(
    "found",
    [
        pytest.param({"speed_1": 0.98}, id="as-fast-as-two-measurements-tell"),
        pytest.param({"accuracy": 0.9451}, id="within-half-a-point"),
        pytest.param({"accuracy": 0.99}, id="better"),
        pytest.param({"agreement": 0.9}, id="disagrees-and-is-as-often-right"),
        pytest.param({"neighbour_shift": 0.0009}, id="hardly-minds-its-neighbours"),
    ],
)
def test_a_candidate_at_the_edge_of_the_budget_may_be_kept(found: dict[str, Any]) -> None:
    assert refusal(row("good", **found), BUDGET) == ""


def test_dynamic_ranges_are_kept_only_where_they_are_allowed() -> None:
    dynamic = row("dynamic-u8", speed_1=2.0, speed_32=3.0, neighbour_shift=0.0123)
    allowed = msgspec.structs.replace(BUDGET, max_neighbour_shift=1.0)
    assert kept(FP32, dynamic, QUICK) == "quick"
    assert kept(FP32, dynamic, QUICK, budget=allowed) == "dynamic-u8"


def test_who_has_all_that_is_wished_goes_before_who_gains_more() -> None:
    lopsided = row("lopsided", speed_1=4.0, speed_32=1.6)
    assert gain(lopsided) > gain(QUICK)
    assert kept(FP32, lopsided, QUICK) == "quick"


def test_where_nobody_has_all_that_is_wished_the_report_says_what_is_lacking() -> None:
    small = row("weights", 0.32)
    choice = choose([FP32, small], BUDGET)
    assert choice.kept.name == "weights"
    assert missed(small, BUDGET) == [
        "1.00x at a batch of 32, under 1.7", "0.320 of the size, over 0.31",
    ]  # fmt: skip
    assert choice.why.endswith("this one: " + "; ".join(missed(small, BUDGET)))


def test_among_those_that_gain_as_much_the_one_that_agrees_most_is_kept() -> None:
    rough, faithful = (
        row("rough", speed_1=1.5, speed_32=2.0, agreement=0.99),
        row("faithful", speed_1=1.4, speed_32=1.95, agreement=0.999),
    )
    assert kept(FP32, rough, faithful) == "faithful"


def test_among_equals_the_first_is_kept_whatever_the_noise_of_a_measurement() -> None:
    rows = [row("first", speed_32=2.0), row("second", speed_32=2.02), row("third", speed_32=1.98)]
    for order in itertools.permutations(rows):
        assert kept(FP32, *order) == order[0].name


def test_fp32_is_kept_where_another_is_only_as_good() -> None:
    assert kept(FP32, row("renamed", 0.99, agreement=0.9999)) == "fp32"


def test_what_failed_keeps_its_reason() -> None:
    failed = Row(name="dynamic-s8", precision="int8", reason="it does not load: ConvInteger")
    choice = choose([FP32, failed], BUDGET)
    assert choice.rows[1].reason == "it does not load: ConvInteger"
    assert not failed.loads


def test_without_a_measurement_of_fp32_nothing_is_chosen() -> None:
    with pytest.raises(ArtefactError, match="could not be measured"):
        choose([QUICK], BUDGET)
