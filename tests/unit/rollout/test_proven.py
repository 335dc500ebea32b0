"""A rollback brings back what was proven last, and never what was found to be bad."""

from __future__ import annotations

import msgspec
import pytest

from cloud.rollout.phases import Phase
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.proven import is_carried, proven
from cloud.rollout.record import RolloutRecord
from shared.releases.machine import UNDER_WAY, State
from tests.unit.rollout.fleets import fleet, out

BLANK = RolloutRecord(id="r", channel="c", salt="s", share=1.0, canaries=())
Past = tuple[str, Phase, str]


def past(*rollouts: Past) -> list[RolloutRecord]:
    """Returns rollouts of (version, phase, base)."""
    return [
        msgspec.structs.replace(BLANK, version=version, phase=phase, base=base)
        for version, phase, base in rollouts
    ]


DONE, BAD, BACK = Phase.COMPLETED, Phase.ABORTED, Phase.ROLLED_BACK
RUNS, GONE, HALT = Phase.RUNNING, Phase.SUPERSEDED, Phase.HALTED


@pytest.mark.parametrize(
    ("newest_first", "version", "base"),
    [
        pytest.param([], "1", "", id="the-first"),
        pytest.param([("1", DONE, "")], "2", "1", id="after-a-completed-one"),
        pytest.param([("1", RUNS, "")], "2", "", id="nothing-is-proven-yet"),
        pytest.param([("2", RUNS, "1"), ("1", DONE, "")], "3", "1", id="one-that-runs"),
        pytest.param([("2", BAD, "1"), ("1", DONE, "")], "3", "1", id="after-an-abort"),
        pytest.param([("2", BACK, "1"), ("1", DONE, "")], "3", "1", id="after-a-rollback"),
        pytest.param([("2", BAD, "1"), ("1", DONE, "")], "1", "", id="the-base-itself"),
        pytest.param(
            [("3", BAD, "2"), ("2", DONE, "1"), ("1", DONE, "")], "2", "1", id="the-base-of-three"
        ),
        pytest.param([("2", DONE, "1"), ("1", DONE, "")], "2", "1", id="what-stands-itself"),
        pytest.param([("2", DONE, "1"), ("1", DONE, "")], "1", "2", id="the-one-before-it"),
        pytest.param([("2", HALT, "1"), ("1", DONE, "")], "2", "1", id="tried-again"),
        pytest.param(
            [("2", BAD, "1"), ("2", DONE, "1"), ("1", DONE, "")], "3", "1", id="bad-in-the-end"
        ),
        pytest.param(
            [("2", DONE, "1"), ("2", BAD, "1"), ("1", DONE, "")], "3", "2", id="good-in-the-end"
        ),
        pytest.param(
            [("1", GONE, "2"), ("2", DONE, "1"), ("1", DONE, "")], "3", "2", id="superseded"
        ),
        pytest.param([("4", BAD, "3")], "5", "3", id="the-archive-is-lost"),
        pytest.param([("3", BAD, "2"), ("2", BACK, "1")], "2", "1", id="its-own-record-is-lost"),
        pytest.param(
            [("1", BACK, ""), ("2", BAD, "1"), ("1", DONE, "")], "3", "", id="all-are-bad"
        ),
    ],
)
def test_the_base_of_a_new_rollout(newest_first: list[Past], version: str, base: str) -> None:
    assert proven(past(*newest_first), version) == base


# What the fleet ran as a whole

HELD = msgspec.structs.replace(BLANK, version="1", phase=GONE, carried=True)


@pytest.mark.parametrize(
    ("newest_first", "version", "base"),
    [
        pytest.param([HELD], "2", "1", id="nothing-is-proven"),
        pytest.param([HELD], "1", "", id="itself"),
        pytest.param([HELD, *past(("0", DONE, ""))], "2", "0", id="what-is-proven-goes-first"),
        pytest.param([*past(("1", BAD, "")), HELD], "2", "", id="bad-in-the-end"),
        pytest.param([*past(("2", BAD, "")), HELD], "3", "1", id="the-one-between-was-bad"),
        pytest.param(
            [msgspec.structs.replace(HELD, version="2"), HELD], "3", "2", id="the-latest-of-two"
        ),
    ],
)
def test_where_nothing_is_proven_the_base_is_what_the_fleet_ran_as_a_whole(
    newest_first: list[RolloutRecord], version: str, base: str
) -> None:
    assert proven(newest_first, version) == base


def test_a_version_is_carried_by_a_fleet_of_which_all_but_a_few_have_committed_it() -> None:
    nodes, plan = fleet(20), RolloutPlan()
    record = out(plan, nodes)  # its first wave is one canary
    nodes.says(State.COMMITTED, *range(17))
    assert not is_carried(record, plan, nodes.nodes)
    nodes.says(State.COMMITTED, 17)
    assert is_carried(record, plan, nodes.nodes)
    nodes.goes(*range(20), online=False)
    assert is_carried(record, plan, nodes.nodes)


@pytest.mark.parametrize("state", [State.ROLLED_BACK, State.FAILED_NO_STATE_CHANGE, State.REJECTED])
def test_what_failed_on_a_node_is_not_carried(state: State) -> None:
    nodes, plan = fleet(20), RolloutPlan()
    nodes.says(State.COMMITTED, *range(19))
    nodes.says(state, 19)
    assert not is_carried(out(plan, nodes), plan, nodes.nodes)


@pytest.mark.parametrize("state", [State.TIMED_OUT, State.SUPERSEDED, *UNDER_WAY])
def test_a_node_that_has_not_got_to_its_end_speaks_against_nothing(state: State) -> None:
    nodes, plan = fleet(20), RolloutPlan()
    nodes.says(State.COMMITTED, *range(19))
    nodes.says(state, 19)
    assert is_carried(out(plan, nodes), plan, nodes.nodes)


def test_reports_of_another_rollout_carry_nothing_nor_does_a_fleet_of_nobody() -> None:
    nodes, plan = fleet(3), RolloutPlan()
    record = out(plan, nodes)
    nodes.says(State.COMMITTED, 0, 1, 2, rollout="meter-6")
    assert not is_carried(record, plan, nodes.nodes)
    assert not is_carried(record, plan, [])
