"""What a rollout does by itself, and the reason that it gives."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cloud.rollout import commands
from cloud.rollout.decision import Decision
from cloud.rollout.phases import Event, Phase
from cloud.rollout.plan import RolloutPlan, Wave
from cloud.rollout.record import RolloutRecord, published
from cloud.rollout.step import step
from cloud.rollout.tally import stragglers, tally_wave
from shared.releases.machine import ENDS, UNDER_WAY, State
from shared.releases.rollout import takes_part
from tests.unit.rollout.fleets import AT_ONCE, Fleet, begun, fleet, out

PLAN = RolloutPlan()
SHORTER = RolloutPlan(waves=(Wave(share=0.1), Wave(share=0.6), Wave(share=1)))
SOAK_S, DEADLINE_S = 600.0, 3600.0
FAILURES = (State.REJECTED, State.FAILED_NO_STATE_CHANGE, State.ROLLED_BACK, State.TIMED_OUT)


def steps(record: RolloutRecord, plan: RolloutPlan, nodes: Fleet, *times_s: float) -> Decision:
    """Steps at each time and returns the last decision."""
    for now_s in times_s:
        decision = step(record, plan, nodes.nodes, now_s)
        record = decision.record
    return decision


def at_once(**changes: Any) -> RolloutPlan:
    return AT_ONCE.model_copy(update=changes)


def offered(size: int, plan: RolloutPlan = AT_ONCE) -> tuple[Fleet, RolloutRecord]:
    """Returns a fleet and a rollout that it was offered at 0 s."""
    nodes = fleet(size)
    return nodes, steps(out(plan, nodes), plan, nodes, 0.0).record


def test_before_its_manifest_is_published_nothing_is_expected_of_anybody() -> None:
    nodes = fleet(3)
    decision = steps(begun(PLAN, nodes), PLAN, nodes, 0.0, 1e6)
    assert (decision.event, decision.record.nodes) == (None, {})
    assert decision.needs_seq
    assert decision.reason == "wave 1 of 4: its manifest is not published yet"


# Advancing


def test_it_says_how_many_committed_and_how_long_they_soaked() -> None:
    nodes, record = offered(50)
    nodes.says(State.COMMITTED, *range(48))
    decision = steps(record, AT_ONCE, nodes, 10.0, 609.0)
    assert decision.event is None
    assert decision.reason == "wave 1 of 1: 48 of 50 committed (96 %), soaked 599 of 600 s"
    decision = steps(decision.record, AT_ONCE, nodes, 610.0)
    assert decision.event is Event.COMPLETE
    assert decision.reason == (
        "wave 1 of 1: 48 of 50 committed (96 %), soaked 600 s; still without it: "
        "plant/node-48 (under way), plant/node-49 (under way)"
    )


def test_the_soak_begins_anew_when_the_success_is_lost() -> None:
    nodes, record = offered(10)
    nodes.says(State.COMMITTED, *range(9))
    record = steps(record, AT_ONCE, nodes, 10.0).record
    nodes.says(State.ROLLED_BACK, 8)
    record = steps(record, AT_ONCE, nodes, 300.0).record
    assert (record.phase, record.passed_s) == (Phase.RUNNING, None)
    nodes.says(State.COMMITTED, 9, 8)
    assert steps(record, AT_ONCE, nodes, 400.0, 700.0).event is None
    assert steps(record, AT_ONCE, nodes, 400.0, 1000.0).event is Event.COMPLETE


@pytest.mark.parametrize("state", UNDER_WAY)
def test_a_node_that_is_under_way_has_not_succeeded(state: State) -> None:
    nodes, record = offered(1)
    nodes.says(state, 0)
    assert steps(record, AT_ONCE, nodes, 10.0, 2000.0).event is None


def test_a_report_of_another_rollout_is_none() -> None:
    nodes, record = offered(1)
    nodes.says(State.COMMITTED, 0, rollout="meter-6")
    assert steps(record, AT_ONCE, nodes, 10.0, 2000.0).record.nodes["plant/node-0"].outcome is None


def test_the_next_wave_needs_a_manifest_with_its_share() -> None:
    nodes = fleet(100)
    nodes.says(State.COMMITTED, *range(100))
    decision = steps(out(PLAN, nodes), PLAN, nodes, 0.0, SOAK_S)
    assert (decision.event, decision.needs_seq) == (Event.ADVANCE, True)
    assert (decision.record.wave, decision.record.share) == (1, 0.05)
    assert decision.reason == "wave 1 of 4: 1 of 1 committed (100 %), soaked 600 s"
    again = steps(decision.record, PLAN, nodes, SOAK_S, 10 * SOAK_S)
    assert again.event is None
    assert again.needs_seq


def test_each_wave_is_judged_by_its_own_nodes() -> None:
    plan = RolloutPlan(waves=(Wave(share=0.5), Wave(share=1)), canaries_per_class=0)
    nodes = fleet(9)  # too few for the abort rule
    first = out(plan, nodes)
    early = [
        i for i, each in enumerate(nodes.nodes) if takes_part(first.rollout, each.site, each.node)
    ]
    late = [i for i in range(9) if i not in early]
    assert early
    assert len(late) >= 2
    nodes.says(State.COMMITTED, *early)
    record = published(steps(first, plan, nodes, 0.0, SOAK_S).record, 2, SOAK_S)
    nodes.says(State.COMMITTED, *late[1:])
    nodes.says(State.REJECTED, late[0])
    decision = steps(record, plan, nodes, 700.0)
    assert decision.event is Event.ABORT
    assert f"{len(late) - 1} of {len(late)} committed" in decision.reason


# Small fleets


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_small_fleet_takes_its_canary_and_then_the_rest_without_empty_waves(size: int) -> None:
    nodes = fleet(size)
    record, now_s, waves, seq = begun(PLAN, nodes), 0.0, [], 0
    while record.phase is Phase.RUNNING:
        if record.seq == 0:
            seq += 1
            record = published(record, seq, now_s)
            waves.append(record.wave)
            taking = [takes_part(record.rollout, each.site, each.node) for each in nodes.nodes]
            nodes.says(State.COMMITTED, *(i for i in range(size) if taking[i]))
        now_s += 100
        record = steps(record, PLAN, nodes, now_s).record
    assert record.phase is Phase.COMPLETED
    assert record.share == 1
    assert waves[0] == 0
    assert len(waves) <= size
    assert {course.outcome for course in record.nodes.values()} == {State.COMMITTED}
    assert len(record.nodes) == size


def test_the_only_node_is_canary_and_all_and_completes_it_under_a_share_of_1() -> None:
    nodes = fleet(1)
    nodes.says(State.COMMITTED, 0)
    decision = steps(out(PLAN, nodes), PLAN, nodes, 0.0, SOAK_S)
    assert decision.event is Event.COMPLETE
    assert decision.needs_seq
    assert decision.record.offer.rollout is not None
    assert decision.record.offer.rollout.share == 1


def test_a_skipped_wave_is_said() -> None:
    nodes = fleet(2)
    record = out(PLAN, nodes)
    nodes.says(State.COMMITTED, 0, 1)
    decision = steps(record, PLAN, nodes, 0.0, SOAK_S)
    other = next(each for each in nodes.nodes if each.name not in record.canaries)
    first = next(
        number
        for number, wave in enumerate(PLAN.waves)
        if takes_part(
            msgspec.structs.replace(record.rollout, share=wave.share), "plant", other.node
        )
    )
    assert decision.record.wave == first > 1
    assert decision.reason.endswith(f"; {first - 1} skipped: they add nobody")


def test_with_no_fleet_yet_the_first_release_is_for_all_who_come() -> None:
    nodes = fleet(0)
    record = out(PLAN, nodes)
    assert (record.wave, record.share) == (3, 1.0)
    assert steps(record, PLAN, nodes, 1.0, 1e6).event is None
    nodes.nodes += fleet(2).nodes
    record = steps(record, PLAN, nodes, 1e6 + 1).record
    nodes.says(State.COMMITTED, 0, 1)
    decision = steps(record, PLAN, nodes, 1e6 + 10, 1e6 + 10 + SOAK_S)
    assert decision.event is Event.COMPLETE


# Aborting


@pytest.mark.parametrize("state", FAILURES)
def test_failures_abort_from_the_minimum_count_on(state: State) -> None:
    nodes, record = offered(100)
    nodes.says(state, *range(9), reason="accuracy on golden vectors")
    record = steps(record, AT_ONCE, nodes, 1.0).record
    assert record.phase is Phase.RUNNING
    nodes.says(State.COMMITTED, 9)
    decision = steps(record, AT_ONCE, nodes, 2.0)
    assert decision.event is Event.ABORT
    assert decision.record.offer.halted
    assert decision.needs_seq
    assert decision.reason == (
        "wave 1 of 1: 9 of 10 executed of the wave failed (90 %, 10 % abort): "
        f"9 {state}; most often: accuracy on golden vectors"
    )


@pytest.mark.parametrize(("failed", "aborts"), [(1, False), (2, True)])
def test_the_abort_share_is_of_the_executed_not_of_all(failed: int, aborts: bool) -> None:
    nodes, record = offered(1000)
    nodes.says(State.COMMITTED, *range(18))
    nodes.says(State.ROLLED_BACK, *range(18, 18 + failed))
    assert (steps(record, AT_ONCE, nodes, 1.0).event is Event.ABORT) == aborts


def test_superseded_nodes_are_in_no_count() -> None:
    nodes, record = offered(20)
    nodes.says(State.SUPERSEDED, *range(15))
    nodes.says(State.COMMITTED, *range(15, 20))
    decision = steps(record, AT_ONCE, nodes, 1.0)
    assert decision.event is None
    assert decision.reason.startswith("wave 1 of 1: 5 of 5 committed (100 %)")


def test_a_superseded_node_has_its_whole_time_again() -> None:
    nodes, record = offered(2)
    nodes.says(State.COMMITTED, 1)
    nodes.says(State.SUPERSEDED, 0)
    record = steps(record, AT_ONCE, nodes, 100.0).record
    nodes.says(State.OFFERED, 0)
    record = steps(record, AT_ONCE, nodes, 200.0, 200.0 + DEADLINE_S - 1).record
    assert record.nodes["plant/node-0"].outcome is None
    record = steps(record, AT_ONCE, nodes, 200.0 + DEADLINE_S).record
    assert record.nodes["plant/node-0"].outcome is State.TIMED_OUT


def test_a_wave_waits_for_superseded_nodes_until_its_deadline() -> None:
    nodes, record = offered(3)
    nodes.says(State.SUPERSEDED, 0)
    nodes.says(State.COMMITTED, 1)
    nodes.says(State.REJECTED, 2)
    assert steps(record, AT_ONCE, nodes, 100.0, DEADLINE_S - 1).event is None
    assert steps(record, AT_ONCE, nodes, 100.0, DEADLINE_S).event is Event.ABORT


def test_a_wave_of_few_nodes_that_cannot_succeed_any_more_aborts_when_all_have_ended() -> None:
    nodes, record = offered(4)
    nodes.says(State.FAILED_NO_STATE_CHANGE, 0, reason="no space left")
    nodes.says(State.COMMITTED, 1, 2)
    record = steps(record, AT_ONCE, nodes, 1.0).record
    assert record.phase is Phase.RUNNING
    nodes.says(State.COMMITTED, 3)
    decision = steps(record, AT_ONCE, nodes, 2.0)
    assert decision.event is Event.ABORT
    assert decision.reason == (
        "wave 1 of 1: 3 of 4 committed (75 %), 1 FAILED_NO_STATE_CHANGE; "
        "most often: no space left; 90 % must"
    )


def test_one_canary_that_fails_is_enough_however_many_there_are() -> None:
    nodes = Fleet(*[f"class-{i}" for i in range(30)])
    record = steps(out(PLAN, nodes), PLAN, nodes, 0.0).record
    nodes.says(State.COMMITTED, *range(29))
    nodes.says(State.ROLLED_BACK, 29)
    decision = steps(record, PLAN, nodes, 1.0)
    assert decision.event is Event.ABORT
    assert "29 of 30 committed (96.7 %), canary plant/node-29 failed" in decision.reason
    assert decision.reason.endswith("every canary must")


# Silence and absence


def test_silence_past_the_deadline_is_a_timeout() -> None:
    nodes, record = offered(20)
    nodes.says(State.COMMITTED, *range(15))
    nodes.says(State.PROBATION, 15)
    record = steps(record, AT_ONCE, nodes, DEADLINE_S - 1).record
    assert record.phase is Phase.RUNNING
    decision = steps(record, AT_ONCE, nodes, DEADLINE_S)
    assert decision.event is Event.ABORT
    assert "5 of 20 executed" in decision.reason
    assert "5 TIMED_OUT; most often: no end within 3600 s" in decision.reason


def test_a_node_that_timed_out_and_commits_after_all_has_committed() -> None:
    nodes, record = offered(40)
    nodes.says(State.COMMITTED, *range(39))
    record = steps(record, AT_ONCE, nodes, 3590.0, DEADLINE_S).record
    assert record.nodes["plant/node-39"].outcome is State.TIMED_OUT
    nodes.says(State.COMMITTED, 39)
    record = steps(record, AT_ONCE, nodes, 3700.0).record
    assert record.nodes["plant/node-39"].outcome is State.COMMITTED


def test_of_a_node_that_is_away_nothing_is_expected_until_it_is_back() -> None:
    nodes = fleet(2)
    nodes.goes(1, online=False)
    record = steps(out(AT_ONCE, nodes), AT_ONCE, nodes, 0.0).record
    assert list(record.nodes) == ["plant/node-0"]
    nodes.goes(1, online=True)
    record = steps(record, AT_ONCE, nodes, 3000.0).record
    assert record.nodes["plant/node-1"].offered_s == 3000.0


def test_a_node_that_reports_is_there_whatever_its_will_said() -> None:
    nodes = fleet(1)
    nodes.goes(0, online=False)
    nodes.says(State.FETCHING, 0)
    assert steps(out(AT_ONCE, nodes), AT_ONCE, nodes, 0.0).record.nodes


def test_nodes_that_are_away_hold_no_wave_up_and_are_said() -> None:
    nodes = fleet(10)
    nodes.goes(*range(3, 10), online=False)
    nodes.says(State.COMMITTED, 0, 1, 2)
    decision = steps(out(AT_ONCE, nodes), AT_ONCE, nodes, 0.0, SOAK_S)
    assert decision.event is Event.COMPLETE
    assert decision.reason.endswith(
        "still without it: plant/node-3 (offline), plant/node-4 (offline), plant/node-5 (offline), "
        "plant/node-6 (offline), plant/node-7 (offline) and 2 more"
    )
    assert len(stragglers(decision.record, nodes.nodes)) == 7


def test_a_canary_that_is_away_is_waited_for_until_the_deadline() -> None:
    nodes = Fleet("arm", "arm", "x86")
    nodes.goes(2, online=False)
    nodes.says(State.COMMITTED, 0, 1)
    decision = steps(out(PLAN, nodes), PLAN, nodes, 0.0, 2000.0)
    assert decision.event is None
    assert decision.reason.endswith("canary plant/node-2 is offline")
    decision = steps(decision.record, PLAN, nodes, DEADLINE_S, DEADLINE_S + SOAK_S)
    assert decision.event is Event.ADVANCE


def test_a_node_that_joins_late_does_not_prolong_a_wave_past_its_deadline() -> None:
    nodes, record = offered(10)
    nodes.says(State.COMMITTED, *range(10))
    nodes.nodes += fleet(15).nodes[10:]
    record = steps(record, AT_ONCE, nodes, DEADLINE_S - 1).record
    assert len(record.nodes) == 15
    decision = steps(record, AT_ONCE, nodes, DEADLINE_S, DEADLINE_S + SOAK_S)
    assert decision.event is Event.COMPLETE
    assert "10 of 10 committed" in decision.reason
    assert "plant/node-10 (under way)" in decision.reason


def test_a_wave_whose_nodes_all_went_away_is_over_at_its_deadline() -> None:
    plan = RolloutPlan(waves=(Wave(share=0.5), Wave(share=1)), canaries_per_class=0)
    nodes = fleet(12)
    record = out(plan, nodes)
    early = [
        i for i, each in enumerate(nodes.nodes) if takes_part(record.rollout, each.site, each.node)
    ]
    nodes.says(State.COMMITTED, *early)
    record = published(steps(record, plan, nodes, 0.0, SOAK_S).record, 2, SOAK_S)
    nodes.goes(*(i for i in range(12) if i not in early), online=False)
    record = steps(record, plan, nodes, SOAK_S + DEADLINE_S - 1).record
    assert (record.wave, record.phase) == (1, Phase.RUNNING)
    decision = steps(record, plan, nodes, SOAK_S + DEADLINE_S)
    assert decision.event is Event.COMPLETE


def test_what_nobody_has_proven_goes_no_further_however_late_it_is() -> None:
    nodes = fleet(10)
    record = out(PLAN, nodes)
    nodes.goes(*range(10), online=False)
    decision = steps(record, PLAN, nodes, 0.0, 1e6)
    assert decision.event is None
    assert decision.reason == "wave 1 of 4: no node has it yet (1 offline)"


# What stands of a node's reports


@pytest.mark.parametrize("state", [each for each in ENDS if each is not State.ROLLED_BACK])
def test_who_has_the_release_loses_it_by_a_rollback_alone(state: State) -> None:
    nodes, record = offered(1)
    nodes.says(State.COMMITTED, 0)
    record = steps(record, AT_ONCE, nodes, 1.0).record
    nodes.says(state, 0)
    assert steps(record, AT_ONCE, nodes, 2.0).record.nodes == record.nodes
    nodes.says(State.ROLLED_BACK, 0)
    record = steps(record, AT_ONCE, nodes, 3.0).record
    assert record.nodes["plant/node-0"].outcome is State.ROLLED_BACK


def test_who_failed_and_refuses_the_same_again_has_failed_once_for_the_first_reason() -> None:
    nodes, record = offered(2)
    nodes.says(State.ROLLED_BACK, 0, reason="p95 latency rose")
    record = steps(record, AT_ONCE, nodes, 1.0).record
    nodes.says(State.REJECTED, 0, reason="it has failed on this node before")
    assert steps(record, AT_ONCE, nodes, 2.0).record.nodes == record.nodes


def test_who_failed_and_tries_again_may_commit() -> None:
    nodes, record = offered(2)
    nodes.says(State.FAILED_NO_STATE_CHANGE, 0, reason="no space left")
    record = steps(record, AT_ONCE, nodes, 1.0).record
    nodes.says(State.FETCHING, 0)
    record = steps(record, AT_ONCE, nodes, 2.0).record
    assert record.nodes["plant/node-0"].outcome is State.FAILED_NO_STATE_CHANGE
    nodes.says(State.COMMITTED, 0)
    record = steps(record, AT_ONCE, nodes, 3.0).record
    assert record.nodes["plant/node-0"].outcome is State.COMMITTED


# Plans that change, and ends


def test_a_plan_that_changed_goes_on_from_the_share_that_was_reached() -> None:
    nodes = fleet(200)
    nodes.says(State.COMMITTED, *range(200))
    record = msgspec.structs.replace(out(PLAN, nodes), wave=2, share=0.25)
    decision = steps(record, SHORTER, nodes, 0.0, SOAK_S)
    assert decision.record.share == 0.6
    assert decision.reason.startswith("wave 1 of 3: ")
    promoted = commands.promote(record, SHORTER, nodes.nodes)
    assert promoted.reason == "promoted from wave 1 to wave 2 of 3"


def test_a_plan_that_was_shortened_numbers_no_wave_twice() -> None:
    nodes, record, shares = fleet(400), out(PLAN, fleet(400)), []
    for plan in (PLAN, PLAN, SHORTER, SHORTER, SHORTER):
        joined = set(record.nodes)
        record = steps(record, plan, nodes, 0.0).record
        wave = {name for name, course in record.nodes.items() if course.wave == record.wave}
        assert wave == set(record.nodes) - joined  # nobody of an earlier wave is judged with them
        assert wave
        shares.append((record.wave, record.share))
        if record.share < 1:
            record = published(commands.promote(record, plan, nodes.nodes).record, 2, 0.0)
    assert shares == [(0, 0.0), (1, 0.05), (2, 0.25), (3, 0.6), (4, 1.0)]


def test_a_plan_that_became_finer_skips_nothing_that_was_reached() -> None:
    nodes, record = fleet(400), out(PLAN, fleet(400))
    nodes.says(State.COMMITTED, *range(400))
    record = msgspec.structs.replace(record, wave=1, share=0.25)
    finer = RolloutPlan(waves=tuple(Wave(share=each) for each in (0, 0.05, 0.1, 0.25, 1)))
    decision = steps(record, finer, nodes, 0.0, SOAK_S)
    assert decision.event is Event.ADVANCE
    assert decision.reason.startswith("wave 4 of 5: ")
    assert "skipped" not in decision.reason


def test_a_wave_of_a_plan_that_changed_soaks_as_the_share_does_that_it_has_reached() -> None:
    nodes, record = fleet(400), out(PLAN, fleet(400))
    nodes.says(State.COMMITTED, *range(400))
    record = msgspec.structs.replace(record, wave=2, share=0.25)
    patient = RolloutPlan(waves=(Wave(share=0.25, soak_s=5000), Wave(share=1, soak_s=0)))
    assert steps(record, patient, nodes, 0.0, 4999.0).event is None
    assert steps(record, patient, nodes, 0.0, 5000.0).event is Event.ADVANCE


def test_after_its_end_it_decides_nothing_and_still_hears_stragglers() -> None:
    nodes, record = offered(10)
    nodes.says(State.COMMITTED, *range(9))
    record = steps(record, AT_ONCE, nodes, 1.0, 1.0 + SOAK_S).record
    assert record.phase is Phase.COMPLETED
    nodes.says(State.COMMITTED, 9)
    decision = steps(record, AT_ONCE, nodes, 1e6)
    assert decision.event is None
    assert decision.record.nodes["plant/node-9"].outcome is State.COMMITTED
    assert decision.reason.startswith("completed: wave 1 of 1: 9 of 10 committed")


def test_a_step_repeated_with_nothing_new_changes_nothing() -> None:
    nodes, record = offered(30)
    nodes.says(State.COMMITTED, *range(20))
    decision = steps(record, AT_ONCE, nodes, 5.0)
    assert steps(decision.record, AT_ONCE, nodes, 5.0) == decision


def test_who_joins_a_failing_wave_late_does_not_put_its_end_off() -> None:
    nodes, record = offered(4)
    nodes.says(State.COMMITTED, 0, 1, 2)
    nodes.nodes += fleet(5).nodes[4:]
    record = steps(record, AT_ONCE, nodes, DEADLINE_S - 1).record
    decision = steps(record, AT_ONCE, nodes, DEADLINE_S)
    assert decision.event is Event.ABORT
    assert "3 of 4 committed (75 %), 1 TIMED_OUT" in decision.reason


def test_a_halt_of_a_completed_rollout_that_is_resumed_completes_at_once() -> None:
    nodes = fleet(1)
    nodes.says(State.COMMITTED, 0)
    record = published(steps(out(PLAN, nodes), PLAN, nodes, 0.0, SOAK_S).record, 2, SOAK_S)
    halted = published(commands.halt(record).record, 3, 700.0)
    resumed = published(commands.resume(halted).record, 4, 800.0)
    assert steps(resumed, PLAN, nodes, 801.0).event is Event.COMPLETE


def test_a_wave_whose_nodes_had_it_before_soaks_all_the_same() -> None:
    nodes = fleet(200)
    nodes.says(State.COMMITTED, *range(200))
    record = published(steps(out(PLAN, nodes), PLAN, nodes, 0.0, SOAK_S).record, 2, SOAK_S)
    assert steps(record, PLAN, nodes, SOAK_S, 2 * SOAK_S - 1).event is None
    assert steps(record, PLAN, nodes, SOAK_S, 2 * SOAK_S).event is Event.ADVANCE


def test_a_canary_that_stayed_away_past_its_wave_holds_no_later_wave_up() -> None:
    nodes = Fleet(*["arm"] * 200, "x86")
    nodes.goes(200, online=False)
    nodes.says(State.COMMITTED, *range(200))
    first = steps(out(PLAN, nodes), PLAN, nodes, 0.0, DEADLINE_S, DEADLINE_S + SOAK_S)
    record = published(first.record, 2, 5000.0)
    assert record.wave == 1
    assert steps(record, PLAN, nodes, 5000.0, 5000.0 + SOAK_S).event is Event.ADVANCE


def test_failures_of_all_waves_together_abort() -> None:
    nodes = fleet(200)
    plan = PLAN.model_copy(update={"abort_min_executed": 4, "canaries_per_class": 3})
    first = out(plan, nodes)
    early = [int(name.rsplit("-", 1)[1]) for name in first.canaries]
    record = steps(first, plan, nodes, 0.0).record
    nodes.says(State.COMMITTED, *early[:2])
    nodes.says(State.ROLLED_BACK, early[2])
    record = published(commands.promote(record, plan, nodes.nodes).record, 2, 1.0)
    record = steps(record, plan, nodes, 2.0).record
    fourth = next(
        int(name.rsplit("-", 1)[1]) for name in record.nodes if name not in first.canaries
    )
    nodes.says(State.COMMITTED, fourth)
    decision = steps(record, plan, nodes, 3.0)
    assert decision.event is Event.ABORT
    assert "1 of 4 executed in all failed (25 %, 10 % abort)" in decision.reason


def test_while_the_others_are_away_a_release_goes_no_faster_than_its_waves() -> None:
    nodes = fleet(400)
    record = out(PLAN, nodes)
    canary = int(record.canaries[0].rsplit("-", 1)[1])
    nodes.says(State.COMMITTED, canary)
    nodes.goes(*(i for i in range(400) if i != canary), online=False)
    reached, now_s = [(0.0, 0.0)], 0.0
    while record.phase is Phase.RUNNING:
        decision = steps(record, PLAN, nodes, now_s)
        record = decision.record
        if decision.event is Event.ADVANCE:
            reached.append((record.share, now_s))
            record = published(record, len(reached), now_s)
        now_s += 100.0
    assert reached == [(0.0, 0.0), (0.05, SOAK_S), (0.25, SOAK_S + 3600), (1.0, SOAK_S + 7200)]
    assert record.phase is Phase.COMPLETED


def test_a_wave_that_is_away_is_waited_for_and_judged_when_it_is_back() -> None:
    nodes = fleet(400)
    record = out(PLAN, nodes)
    second = msgspec.structs.replace(record.rollout, share=0.05, nodes=())
    members = [i for i in range(400) if takes_part(second, "plant", f"node-{i}")]
    away = [i for i in members if f"plant/node-{i}" not in record.canaries]
    nodes.says(State.COMMITTED, *(i for i in range(400) if i not in away))
    record = steps(record, PLAN, nodes, 0.0).record
    nodes.goes(*away, online=False)
    decision = steps(record, PLAN, nodes, SOAK_S)
    assert (decision.event, decision.record.wave) == (Event.ADVANCE, 1)
    record = published(decision.record, 2, SOAK_S)
    said = steps(record, PLAN, nodes, SOAK_S + 3000).reason
    assert said == f"wave 2 of 4: no node has it yet ({len(away)} offline)"
    nodes.goes(*away, online=True)
    nodes.says(State.ROLLED_BACK, *away)
    assert steps(record, PLAN, nodes, SOAK_S + 3000).event is Event.ABORT


def test_a_broker_that_has_forgotten_the_fleet_lets_no_wave_begin() -> None:
    nodes = fleet(100)
    record = out(PLAN, nodes)
    nodes.says(State.COMMITTED, *range(100))
    record = steps(record, PLAN, nodes, 0.0).record
    decision = steps(record, PLAN, fleet(0), SOAK_S, 100 * SOAK_S)
    assert decision.event is None
    assert decision.reason.endswith("; no node is known any more")
    assert steps(decision.record, PLAN, nodes, 100 * SOAK_S).event is Event.ADVANCE


def test_a_superseded_node_that_stays_silent_times_out_and_is_counted_once() -> None:
    nodes, record = offered(20)
    nodes.says(State.COMMITTED, *range(19))
    nodes.says(State.SUPERSEDED, 19)
    record = steps(record, AT_ONCE, nodes, 10.0, 10.0 + DEADLINE_S).record
    assert record.nodes["plant/node-19"].outcome is State.TIMED_OUT
    assert tally_wave(record).executed == 20
    assert (tally_wave(record).open, tally_wave(record).superseded) == (0, 0)


def test_who_timed_out_and_then_rejects_it_has_rejected_it() -> None:
    nodes, record = offered(20)
    nodes.says(State.COMMITTED, *range(19))
    record = steps(record, AT_ONCE, nodes, DEADLINE_S).record
    nodes.says(State.REJECTED, 19, reason="its inputs do not fit")
    record = steps(record, AT_ONCE, nodes, DEADLINE_S + 1).record
    course = record.nodes["plant/node-19"]
    assert (course.outcome, course.reason) == (State.REJECTED, "its inputs do not fit")
