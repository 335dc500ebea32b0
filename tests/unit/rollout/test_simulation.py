"""A thousand nodes take a release in waves, and a bad one is stopped where it does harm."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.rollout import commands
from cloud.rollout.phases import Event, Phase
from cloud.rollout.plan import RolloutPlan, Wave
from cloud.rollout.tally import stragglers
from shared.releases.machine import AFTER_THE_SWAP, BEFORE_THE_SWAP, State
from shared.releases.rollout import takes_part
from tests.unit.rollout.simulation import (
    HARDWARE,
    TICK_S,
    Node,
    Traits,
    World,
    population,
    spoiled,
)

NODES = 1000
PLAN = RolloutPlan()
SEEDS = range(3)
WHOLE_COURSE = [(Event.ADVANCE, 1), (Event.ADVANCE, 2), (Event.ADVANCE, 3), (Event.COMPLETE, 3)]


def world(traits: list[Traits], seed: int, plan: RolloutPlan = PLAN) -> World:
    return World.of(traits, plan, salt=f"salt-{seed}")


def first_bad_wave(world: World, is_bad: Callable[[Node], bool]) -> int:
    """Returns the first wave that too many of its nodes fail: the latest one to be aborted in."""
    for number in range(len(world.cloud.plan.waves)):
        members = world.in_wave(number)
        bad = sum(map(is_bad, members))
        if members and (
            bad > (1 - world.cloud.plan.min_success) * len(members) or (bad and number == 0)
        ):
            return number
    raise AssertionError("the release is not bad enough")


def swapped(world: World) -> set[str]:
    return {node.name for node in world.nodes if node.swapped_s is not None}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_good_release_soaks_in_each_wave_and_reaches_nobody_before_theirs(seed: int) -> None:
    sim = world(population(random.Random(seed), NODES), seed)
    touched_in_wave, entered_s = dict[int, int](), {0: 0.0}
    for _ in sim.until(Phase.COMPLETED):
        offer = sim.cloud.record.rollout
        touched = [node for node in sim.nodes if node.touched]
        assert all(takes_part(offer, node.site, node.name) for node in touched)
        touched_in_wave[sim.cloud.record.wave] = len(touched)
        entered_s.setdefault(sim.cloud.record.wave, sim.now_s)
    assert sim.events == WHOLE_COURSE
    assert {node.version for node in sim.nodes} == {"new"}
    sizes = [len(sim.in_wave(number)) for number in range(4)]
    assert sizes[0] == len(HARDWARE)
    assert touched_in_wave == {number: sum(sizes[: number + 1]) for number in range(4)}
    for number in range(1, 4):
        assert entered_s[number] - entered_s[number - 1] >= PLAN.waves[number - 1].soak_s


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("share", [0.25, 0.6, 1.0])
def test_a_bad_release_is_aborted_in_the_first_wave_that_it_is_bad_in(
    seed: int, share: float
) -> None:
    rng = random.Random(seed)
    sim = world(spoiled(population(rng, NODES), rng, share, fails_in=State.PROBATION), seed)
    sim.run(Phase.ABORTED)
    record = sim.cloud.record
    assert record.wave <= first_bad_wave(sim, lambda node: node.traits.fails_in is not None)
    assert "ROLLED_BACK" in record.reason
    offered = {node.name for number in range(record.wave + 1) for node in sim.in_wave(number)}
    at_the_abort = swapped(sim)
    assert at_the_abort <= offered
    # The halt is out: whoever had not swapped by then never does.
    sim.idle(PLAN.deadline_s)
    assert swapped(sim) == at_the_abort
    assert not any(node.state in (*BEFORE_THE_SWAP, *AFTER_THE_SWAP) for node in sim.nodes)
    assert all(node.version == "old" for node in sim.nodes if node.name not in offered)


@pytest.mark.parametrize("seed", SEEDS)
def test_within_a_large_wave_the_abort_comes_before_most_of_it_has_swapped(seed: int) -> None:
    # One wave only, and nodes whose fetching is spread over an hour.
    rng = random.Random(seed)
    plan = RolloutPlan(waves=(Wave(share=1),), canaries_per_class=0, abort_min_executed=20)
    slow = [replace(each, fetch_s=rng.uniform(5, 3000)) for each in population(rng, NODES)]
    sim = world(spoiled(slow, rng, 0.5, fails_in=State.PROBATION), seed, plan)
    sim.run(Phase.ABORTED)
    executed = [each for each in sim.cloud.record.nodes.values() if each.outcome is not None]
    in_flight = [node for node in sim.nodes if node.state in AFTER_THE_SWAP]
    most_in_a_turn = 10 * NODES * TICK_S / 3000
    assert 20 <= len(executed) <= 20 + most_in_a_turn
    sim.idle(PLAN.deadline_s)
    assert len(swapped(sim)) == len(executed) + len(in_flight)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hardware", HARDWARE)
def test_a_release_that_is_bad_on_one_hardware_class_ends_with_its_canary(
    seed: int, hardware: str
) -> None:
    traits = [
        replace(each, fails_in=State.SMOKE if each.hardware == hardware else None)
        for each in population(random.Random(seed), NODES)
    ]
    sim = world(traits, seed)
    sim.run(Phase.ABORTED)
    touched = [node for node in sim.nodes if node.touched]
    assert sorted(node.traits.hardware for node in touched) == sorted(HARDWARE)
    assert sim.events == [(Event.ABORT, 0)]
    (bad,) = (node for node in touched if node.traits.hardware == hardware)
    assert f"canary {bad.site}/{bad.name} failed" in sim.cloud.record.reason


@pytest.mark.parametrize("seed", SEEDS)
def test_a_release_that_silences_nodes_is_aborted_by_their_silence(seed: int) -> None:
    rng = random.Random(seed)
    sim = world(spoiled(population(rng, NODES), rng, 0.5, dies_in=State.ACTIVATING), seed)
    sim.run(Phase.ABORTED)
    assert sim.cloud.record.wave <= first_bad_wave(
        sim, lambda node: node.traits.dies_in is not None
    )
    assert "TIMED_OUT" in sim.cloud.record.reason


@pytest.mark.parametrize("seed", SEEDS)
def test_nodes_that_are_away_hold_nothing_up_and_take_it_when_they_are_back(seed: int) -> None:
    rng = random.Random(seed)
    back_s = 12_000.0
    traits = [
        replace(each, away=(0.0, back_s)) if rng.random() < 0.1 else each
        for each in population(rng, NODES)
    ]
    sim = world(traits, seed)
    sim.run(Phase.COMPLETED)
    assert sim.events == WHOLE_COURSE
    assert sim.now_s < 4 * PLAN.deadline_s
    missing = {f"{node.site}/{node.name} (offline)" for node in sim.nodes if node.version == "old"}
    assert len(missing) == sum(each.away[1] > 0 for each in traits)
    assert (
        set(stragglers(sim.cloud.record, [node.seen(sim.now_s) for node in sim.nodes])) == missing
    )
    assert sorted(missing)[0] in sim.cloud.record.reason
    sim.idle(back_s + 2000 - sim.now_s)
    assert {node.version for node in sim.nodes} == {"new"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_few_that_fall_silent_delay_a_wave_by_no_more_than_its_deadline(seed: int) -> None:
    rng = random.Random(seed)
    sim = world(spoiled(population(rng, NODES), rng, 0.02, dies_in=State.FETCHING), seed)
    sim.run(Phase.COMPLETED, Phase.ABORTED)
    # A canary that dies is the one thing that may stop it.
    if any(node.dead for node in sim.in_wave(0)):
        assert sim.events == [(Event.ABORT, 0)]
    else:
        assert sim.events == WHOLE_COURSE
    assert sim.now_s <= sum(PLAN.deadline_s + wave.soak_s + 2 * TICK_S for wave in PLAN.waves)


@pytest.mark.parametrize("seed", SEEDS)
def test_nodes_that_join_in_mid_rollout_take_part_by_their_place(seed: int) -> None:
    rng = random.Random(seed)
    sim = world(population(rng, 500), seed)
    late = [Node("late", f"node-{i}", each, seq=0) for i, each in enumerate(population(rng, 500))]
    for _ in sim.until(Phase.COMPLETED):
        if sim.cloud.record.wave >= 2 and late:
            sim.nodes += [late.pop() for _ in range(min(10, len(late)))]
        offer = sim.cloud.record.rollout
        assert all(takes_part(offer, node.site, node.name) for node in sim.nodes if node.touched)
    assert len(sim.nodes) == 1000
    assert {node.version for node in sim.nodes} == {"new"}
    assert {course.outcome for course in sim.cloud.record.nodes.values()} == {State.COMMITTED}


def to_wave(sim: World, number: int, turns: int = 2) -> None:
    """Turns until a wave is out and some of its nodes are under way."""
    while sim.cloud.record.wave < number:
        sim.turn()
    for _ in range(turns):
        sim.turn()


def do(sim: World, command: Callable[..., object], *arguments: object) -> None:
    decision = command(sim.cloud.record, *arguments)
    sim.cloud.carry_out(decision, sim.now_s)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pause_in_mid_wave_lets_the_wave_end_and_no_other_begin(seed: int) -> None:
    sim = world(population(random.Random(seed), NODES // 3), seed)
    to_wave(sim, 2)
    seq = sim.cloud.record.seq
    do(sim, commands.pause)
    sim.idle(3 * PLAN.deadline_s)
    assert (sim.cloud.record.phase, sim.cloud.record.wave) == (Phase.PAUSED, 2)
    assert sim.cloud.record.seq == seq
    updated = {node.name for node in sim.nodes if node.version == "new"}
    assert updated == {node.name for number in range(3) for node in sim.in_wave(number)}
    do(sim, commands.resume)
    sim.run(Phase.COMPLETED)
    assert {node.version for node in sim.nodes} == {"new"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_halt_in_mid_wave_stops_who_has_not_swapped_and_resuming_brings_them_in(
    seed: int,
) -> None:
    sim = world(population(random.Random(seed), NODES // 3), seed)
    to_wave(sim, 2)
    under_way = [node for node in sim.nodes if node.state in BEFORE_THE_SWAP]
    assert under_way
    do(sim, commands.halt)
    before = swapped(sim)
    sim.idle(3 * PLAN.deadline_s)
    assert sim.cloud.record.phase is Phase.HALTED
    assert swapped(sim) == before
    assert {node.state for node in under_way} == {State.SUPERSEDED}
    assert not any(course.outcome is State.TIMED_OUT for course in sim.cloud.record.nodes.values())
    do(sim, commands.resume)
    sim.run(Phase.COMPLETED)
    assert {node.version for node in sim.nodes} == {"new"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rollback_in_mid_wave_brings_everybody_back_to_the_old_release(seed: int) -> None:
    sim = world(population(random.Random(seed), NODES // 3), seed)
    to_wave(sim, 3)
    assert {node.version for node in sim.nodes} == {"old", "new"}
    do(sim, commands.roll_back)
    sim.idle(PLAN.deadline_s)
    assert sim.cloud.record.phase is Phase.ROLLED_BACK
    assert {node.version for node in sim.nodes} == {"old"}


@pytest.mark.parametrize("seed", SEEDS)
def test_promote_begins_the_next_wave_at_once(seed: int) -> None:
    sim = world(population(random.Random(seed), NODES // 3), seed)
    to_wave(sim, 1)
    do(sim, commands.promote, PLAN, [node.seen(sim.now_s) for node in sim.nodes])
    assert sim.cloud.record.wave == 2
    sim.run(Phase.COMPLETED)
    assert sim.events == [
        (Event.ADVANCE, 1), (Event.PROMOTE, 2), (Event.ADVANCE, 3), (Event.COMPLETE, 3),
    ]  # fmt: skip


def troubled(seed: int) -> list[Traits]:
    rng = random.Random(seed)
    traits = spoiled(population(rng, 300), rng, 0.02, fails_in=State.SMOKE)
    traits = spoiled(traits, rng, 0.02, dies_in=State.FETCHING)
    return [
        replace(each, away=(rng.uniform(0, 2000), rng.uniform(2000, 6000)))
        if rng.random() < 0.05
        else each
        for each in traits
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_record_that_is_reloaded_after_every_step_takes_the_very_same_course(seed: int) -> None:
    kept, reloaded = world(troubled(seed), seed), world(troubled(seed), seed)
    kept.cloud.reload = lambda record: record
    for sim in (kept, reloaded):
        sim.run(Phase.COMPLETED, Phase.ABORTED)
    assert reloaded.cloud.told == kept.cloud.told
    assert reloaded.cloud.record == kept.cloud.record
    assert len(kept.cloud.record.nodes) >= len(HARDWARE)


@pytest.mark.parametrize("share", [0.0, 0.5], ids=["good", "bad"])
@pytest.mark.parametrize("seed", range(5))
def test_a_cloud_that_is_killed_at_any_point_comes_to_the_same_end(seed: int, share: float) -> None:
    def fresh() -> World:
        rng = random.Random(seed)
        return world(spoiled(population(rng, 300), rng, share, fails_in=State.PROBATION), seed)

    undisturbed, sim, rng = fresh(), fresh(), random.Random(seed)
    undisturbed.run(Phase.COMPLETED, Phase.ABORTED)
    kills = 0

    def killed() -> bool:
        nonlocal kills
        kills += (now := rng.random() < 0.4)
        return now

    sim.cloud.killed = killed
    sim.run(Phase.COMPLETED, Phase.ABORTED)
    assert kills > 3
    assert sim.events == undisturbed.events
    sim.cloud.killed = lambda: False
    sim.turn()
    # One manifest for each offer, however often its publication was cut off.
    assert sim.cloud.retained == undisturbed.cloud.retained
    assert sim.cloud.record.seq == undisturbed.cloud.record.seq


def killed_at(point: int) -> tuple[Callable[[], bool], Callable[[], int]]:
    """Returns what kills the cloud once, before one of its durable acts, and the acts so far."""
    acts = 0

    def killed() -> bool:
        nonlocal acts
        acts += 1
        return acts == point

    return killed, lambda: acts


@pytest.mark.parametrize("share", [0.0, 0.5], ids=["good", "bad"])
def test_one_kill_before_any_durable_act_changes_nothing(share: float) -> None:
    def run(point: int) -> tuple[World, int]:
        rng = random.Random(1)
        sim = world(spoiled(population(rng, 12), rng, share, dies_in=State.ACTIVATING), 1)
        sim.cloud.killed, acts = killed_at(point)
        sim.run(Phase.COMPLETED, Phase.ABORTED)
        sim.turn()
        return sim, acts()

    undisturbed, points = run(0)
    for point in range(1, points):
        sim, _ = run(point)
        assert sim.events == undisturbed.events
        assert sim.cloud.retained == undisturbed.cloud.retained
        assert sim.cloud.record.seq == undisturbed.cloud.record.seq


@st.composite
def small_fleets(draw: st.DrawFn) -> list[Traits]:
    states = st.none() | st.sampled_from([State.FETCHING, State.SMOKE, State.PROBATION])
    away = st.tuples(st.floats(0, 5000), st.floats(0, 8000))
    each = st.builds(
        Traits,
        hardware=st.sampled_from(HARDWARE),
        fetch_s=st.floats(0, 1000),
        probation_s=st.floats(0, 1000),
        fails_in=states,
        dies_in=states,
        away=away,
    )
    return draw(st.lists(each, min_size=1, max_size=8))


@given(small_fleets(), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_whatever_befalls_a_small_fleet_its_rollout_comes_to_an_end(
    traits: list[Traits], salt: int
) -> None:
    sim = world(traits, salt)
    shares = []
    longest_s = sum(PLAN.deadline_s + wave.soak_s + 3 * TICK_S for wave in PLAN.waves)
    for _ in sim.until(Phase.COMPLETED, Phase.ABORTED, within_s=8000 + longest_s):
        record = sim.cloud.record
        shares.append(record.share)
        assert all(
            takes_part(record.rollout, node.site, node.name) for node in sim.nodes if node.touched
        )
    assert shares == sorted(shares)
    if sim.cloud.record.phase is Phase.COMPLETED:
        assert sim.cloud.record.share == 1
        ends = [each.outcome for each in sim.cloud.record.nodes.values()]
        assert State.COMMITTED in ends
