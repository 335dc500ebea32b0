"""What people do to a rollout, and what the manifests then have to say."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from cloud.rollout import commands
from cloud.rollout.phases import Event, IllegalCommandError, Phase
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.record import Offer, published
from cloud.rollout.step import step
from shared.releases.machine import State
from shared.releases.rollout import takes_part
from tests.unit.rollout.fleets import AT_ONCE, fleet, out

PLAN = RolloutPlan()
NODES = fleet(200)
RUNNING = out(PLAN, NODES)


def test_a_pause_needs_no_manifest() -> None:
    decision = commands.pause(RUNNING)
    assert decision.record.phase is Phase.PAUSED
    assert not decision.needs_seq
    assert decision.record.offer == RUNNING.offer


def test_resuming_a_pause_needs_none_either() -> None:
    decision = commands.resume(commands.pause(RUNNING).record)
    assert decision.record.phase is Phase.RUNNING
    assert not decision.needs_seq


def test_a_halt_needs_a_halted_manifest_with_the_same_nodes() -> None:
    decision = commands.halt(RUNNING)
    assert decision.needs_seq
    assert decision.record.offer == Offer(RUNNING.rollout, halted=True)


def test_a_rollback_needs_a_manifest_of_the_old_release_for_everybody() -> None:
    decision = commands.roll_back(RUNNING)
    assert decision.needs_seq
    assert decision.record.offer == Offer(None, halted=False, previous=True)


def test_promote_needs_a_manifest_with_the_next_share() -> None:
    decision = commands.promote(RUNNING, PLAN, NODES.nodes)
    assert (decision.event, decision.needs_seq) == (Event.PROMOTE, True)
    offer = decision.record.offer.rollout
    assert offer is not None
    assert (offer.share, offer.nodes, offer.id) == (0.05, RUNNING.canaries, RUNNING.id)
    assert decision.reason == "promoted from wave 1 to wave 2 of 4"


def test_promote_begins_one_wave_though_all_of_its_nodes_are_away() -> None:
    nodes = fleet(200)
    record = step(RUNNING, PLAN, nodes.nodes, 1.0).record
    nodes.goes(*range(200), online=False)
    shares = []
    for seq in (2, 3, 4):
        record = published(commands.promote(record, PLAN, nodes.nodes).record, seq, 2.0)
        shares.append(record.share)
    assert shares == [0.05, 0.25, 1.0]


def test_promote_passes_over_waves_that_have_no_node_at_all() -> None:
    nodes = fleet(2)
    record = out(PLAN, nodes)
    promoted = commands.promote(record, PLAN, nodes.nodes).record
    other = next(each for each in nodes.nodes if each.name not in record.canaries)
    assert takes_part(promoted.rollout, other.site, other.node)
    before = PLAN.waves[PLAN.number(promoted.share) - 1].share
    earlier = msgspec.structs.replace(promoted.rollout, share=before)
    assert not takes_part(earlier, other.site, other.node)


def test_where_no_node_is_known_nothing_is_promoted() -> None:
    with pytest.raises(IllegalCommandError, match="no node of meter is known"):
        commands.promote(RUNNING, PLAN, [])


def test_the_last_wave_cannot_be_promoted() -> None:
    with pytest.raises(IllegalCommandError, match="wave 1 of 1 is the last; it completes by"):
        commands.promote(out(AT_ONCE, NODES), AT_ONCE, NODES.nodes)


@pytest.mark.parametrize(("base", "also"), [("1", ", roll back"), ("", "")])
def test_a_paused_rollout_is_not_promoted_and_what_is_possible_is_said(
    base: str, also: str
) -> None:
    paused = commands.pause(msgspec.structs.replace(RUNNING, base=base)).record
    expected = f"is not possible: the rollout is paused; possible: resume, halt{also}"
    attempts: tuple[Callable[[], object], ...] = (
        lambda: commands.promote(paused, PLAN, NODES.nodes),
        lambda: commands.pause(paused),
    )
    for refused in attempts:
        with pytest.raises(IllegalCommandError) as told:
            refused()
        assert str(told.value).endswith(expected)


def test_a_rollout_that_was_rolled_back_takes_no_command() -> None:
    back = commands.roll_back(RUNNING).record
    with pytest.raises(IllegalCommandError, match="possible: nothing, publish a new release"):
        commands.resume(back)


def test_while_paused_a_wave_that_has_soaked_does_not_end() -> None:
    nodes = fleet(200)
    record = step(commands.pause(RUNNING).record, PLAN, nodes.nodes, 1.0).record
    nodes.says(State.COMMITTED, *range(200))
    for now_s in (2.0, 5000.0):
        decision = step(record, PLAN, nodes.nodes, now_s)
        assert decision.event is None
        assert decision.reason.startswith("wave 1 of 4: 1 of 1 committed")
        record = decision.record


def test_while_paused_failures_still_abort() -> None:
    nodes = fleet(20)
    record = commands.pause(out(AT_ONCE, nodes)).record
    nodes.says(State.ROLLED_BACK, *range(10), reason="invalid scores")
    decision = step(record, AT_ONCE, nodes.nodes, 1.0)
    assert decision.event is Event.ABORT
    assert decision.record.offer.halted


def test_while_halted_nobody_is_offered_it_and_nobody_times_out() -> None:
    nodes = fleet(3)
    record = step(out(AT_ONCE, nodes), AT_ONCE, nodes.nodes, 1.0).record
    halted = published(commands.halt(record).record, 2, 2.0)
    nodes.nodes.append(fleet(4).nodes[3])
    later = step(halted, AT_ONCE, nodes.nodes, 1e6).record
    assert later.nodes == record.nodes


def test_who_had_swapped_before_a_halt_is_still_heard() -> None:
    nodes = fleet(3)
    record = step(out(AT_ONCE, nodes), AT_ONCE, nodes.nodes, 1.0).record
    halted = published(commands.halt(record).record, 2, 2.0)
    nodes.says(State.COMMITTED, 1)
    later = step(halted, AT_ONCE, nodes.nodes, 3.0)
    assert later.event is None
    assert later.record.nodes["plant/node-1"].outcome is State.COMMITTED


def test_resuming_a_halt_offers_it_anew_with_new_deadlines() -> None:
    nodes = fleet(3)
    record = step(out(AT_ONCE, nodes), AT_ONCE, nodes.nodes, 1.0).record
    nodes.says(State.COMMITTED, 0)
    nodes.says(State.SUPERSEDED, 1)
    halted = step(published(commands.halt(record).record, 2, 2.0), AT_ONCE, nodes.nodes, 3.0)
    decision = commands.resume(halted.record)
    assert decision.needs_seq
    assert decision.record.offer == record.offer
    resumed = step(published(decision.record, 3, 9000.0), AT_ONCE, nodes.nodes, 9001.0)
    assert resumed.event is None
    outcomes = {name: course.outcome for name, course in resumed.record.nodes.items()}
    assert outcomes == {
        "plant/node-0": State.COMMITTED, "plant/node-1": None, "plant/node-2": None,
    }  # fmt: skip
    assert resumed.record.nodes["plant/node-2"].offered_s == 9001.0


def test_a_completed_rollout_may_be_halted_so_that_no_straggler_takes_it() -> None:
    completed = msgspec.structs.replace(RUNNING, phase=Phase.COMPLETED)
    assert commands.halt(completed).record.offer.halted


def test_after_a_halt_the_wave_has_its_whole_deadline_again() -> None:
    nodes = fleet(3)
    record = step(out(AT_ONCE, nodes), AT_ONCE, nodes.nodes, 1.0).record
    nodes.says(State.COMMITTED, 0)
    record = step(record, AT_ONCE, nodes.nodes, 2.0).record
    halted = published(commands.halt(record).record, 2, 3.0)
    record = published(commands.resume(halted).record, 3, 9000.0)
    for now_s in (9001.0, 9700.0, 12_599.0):
        decision = step(record, AT_ONCE, nodes.nodes, now_s)
        assert (decision.event, decision.record.passed_s) == (None, None)
        record = decision.record


def test_after_a_halt_a_wave_soaks_anew() -> None:
    nodes = fleet(3)
    nodes.says(State.COMMITTED, 0, 1, 2)
    record = step(out(AT_ONCE, nodes), AT_ONCE, nodes.nodes, 1.0).record
    assert record.passed_s == 1.0
    halted = published(commands.halt(record).record, 2, 3.0)
    record = published(commands.resume(halted).record, 3, 9000.0)
    decision = step(record, AT_ONCE, nodes.nodes, 9001.0)
    assert (decision.event, decision.record.passed_s) == (None, 9001.0)


def test_a_canary_that_failed_before_a_promotion_is_not_held_against_the_next_wave() -> None:
    nodes = fleet(200)
    record = step(RUNNING, PLAN, nodes.nodes, 1.0).record
    nodes.says(State.COMMITTED, *range(200))
    canary = int(RUNNING.canaries[0].rsplit("-", 1)[1])
    nodes.says(State.PROBATION, canary)
    record = published(commands.promote(record, PLAN, nodes.nodes).record, 2, 2.0)
    nodes.says(State.ROLLED_BACK, canary)
    plan = PLAN.model_copy(update={"abort_min_executed": 100})
    record = step(record, plan, nodes.nodes, 3.0).record
    assert record.nodes[RUNNING.canaries[0]].outcome is State.ROLLED_BACK
    assert step(record, plan, nodes.nodes, 603.0).event is Event.ADVANCE
