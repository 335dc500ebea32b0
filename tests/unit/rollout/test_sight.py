"""What the cloud has not watched counts for no deadline and no soak, and a clock that is set for
nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec
import pytest

from cloud.rollout import commands
from cloud.rollout.phases import Phase
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.record import RolloutRecord, published
from cloud.rollout.sight import LONGEST_LOOK_S, NOTED_EVERY_S, SLACK_S, Sight, as_watched, moved_on
from cloud.rollout.step import step
from shared.releases.machine import State
from tests.unit.rollout.fleets import AT_ONCE, Fleet, fleet, out
from tests.unit.rollout.simulation import Traits, World, population

EPOCH_S = 1_800_000_000.0
SOAK_S, DEADLINE_S = 600.0, 3600.0
DAY_S, YEAR_S = 86_400.0, 31_557_600.0
TURN_S = 5.0


@dataclass
class Cloud:
    """A cloud that watches a fleet, by a wall clock that may be set and one that nobody sets."""

    nodes: Fleet
    record: RolloutRecord
    plan: RolloutPlan = AT_ONCE
    wall_s: float = EPOCH_S
    monotonic_s: float = 0.0
    sight: Sight = field(default_factory=Sight)
    writes: int = 0

    def passes(self, lasts_s: float) -> None:
        self.wall_s += lasts_s
        self.monotonic_s += lasts_s

    def turn(self, lasts_s: float = TURN_S) -> None:
        self.passes(lasts_s)
        resumed = self.sight.resumed(self.record, self.wall_s, self.monotonic_s)
        record = step(resumed, self.plan, self.nodes.nodes, self.wall_s).record
        self.writes += record != self.record
        self.record = record
        self.sight.note(self.wall_s, self.monotonic_s)

    def watches(self, lasts_s: float) -> None:
        for _ in range(round(lasts_s / TURN_S)):
            self.turn()

    def restarts(self, monotonic_s: float = 0.0) -> None:
        self.sight, self.monotonic_s = Sight(), monotonic_s

    def outcomes(self) -> set[State | None]:
        return {course.outcome for course in self.record.nodes.values()}


def watched(size: int = 20) -> Cloud:
    """Returns a cloud whose rollout is out; it has watched for half of the deadline."""
    nodes = fleet(size)
    record = msgspec.structs.replace(out(AT_ONCE, nodes, EPOCH_S), seen_s=EPOCH_S)
    cloud = Cloud(nodes, record)
    cloud.watches(DEADLINE_S / 2)
    return cloud


def was_down(cloud: Cloud) -> None:
    cloud.passes(DAY_S)
    cloud.restarts()


def was_cut_off(cloud: Cloud) -> None:
    cloud.passes(DAY_S)


def was_down_after_it_was_cut_off(cloud: Cloud) -> None:
    cloud.passes(DAY_S)
    cloud.restarts()
    cloud.passes(DAY_S)


def was_down_twice(cloud: Cloud) -> None:
    cloud.passes(DAY_S)
    cloud.restarts()
    cloud.turn()
    cloud.restarts()


def was_suspended(cloud: Cloud) -> None:
    cloud.wall_s += DAY_S  # the other clock stands still meanwhile


def was_set_ahead(cloud: Cloud) -> None:
    cloud.wall_s += 10 * YEAR_S


def was_set_back(cloud: Cloud) -> None:
    cloud.wall_s = 0.0


def was_set_while_it_was_down(cloud: Cloud) -> None:
    cloud.wall_s -= 10 * YEAR_S
    cloud.restarts()


def was_set_back_and_forth(cloud: Cloud) -> None:
    before_s, cloud.wall_s = cloud.wall_s, 0.0
    cloud.restarts()  # without a clock of its own it is 1970, until somebody tells the time
    cloud.watches(10 * TURN_S)
    cloud.wall_s += before_s


Befalls = Callable[[Cloud], None]
BLINDNESS: list[Befalls] = [
    was_down,
    was_cut_off,
    was_down_after_it_was_cut_off,
    was_down_twice,
    was_suspended,
    was_set_ahead,
    was_set_back,
    was_set_while_it_was_down,
    was_set_back_and_forth,
]
LOST_S = NOTED_EVERY_S + 11 * TURN_S + 2 * LONGEST_LOOK_S
"""So much of what was watched may be lost or gained."""


@pytest.mark.parametrize("befalls", BLINDNESS)
def test_a_cloud_that_was_blind_finds_nobody_silent_and_its_deadline_goes_on_where_it_was(
    befalls: Befalls,
) -> None:
    cloud = watched()
    befalls(cloud)
    cloud.turn()
    assert (cloud.record.phase, cloud.outcomes()) == (Phase.RUNNING, {None})
    cloud.watches(DEADLINE_S / 2 - LOST_S)
    assert (cloud.record.phase, cloud.outcomes()) == (Phase.RUNNING, {None})
    cloud.watches(2 * LOST_S)
    assert cloud.outcomes() == {State.TIMED_OUT}  # they had their time; it was not given for good
    assert cloud.record.phase is Phase.ABORTED


@pytest.mark.parametrize("befalls", BLINDNESS)
def test_a_wave_soaks_only_while_it_is_watched(befalls: Befalls) -> None:
    cloud = watched()
    cloud.nodes.says(State.COMMITTED, *range(20))
    cloud.watches(SOAK_S / 2)
    befalls(cloud)
    phases = []
    for lasts_s in (SOAK_S / 2 - LOST_S, 2 * LOST_S):
        cloud.watches(lasts_s)
        phases.append(cloud.record.phase)
    assert phases == [Phase.RUNNING, Phase.COMPLETED]


@pytest.mark.parametrize("befalls", BLINDNESS)
def test_what_befell_a_node_meanwhile_is_heard(befalls: Befalls) -> None:
    cloud = watched()
    befalls(cloud)
    cloud.nodes.says(State.ROLLED_BACK, *range(10))
    cloud.turn()
    assert cloud.record.phase is Phase.ABORTED


def test_a_manifest_that_came_out_unwatched_has_its_whole_time() -> None:
    cloud = watched()
    halted = published(commands.halt(cloud.record).record, 2, cloud.wall_s)
    resumed = commands.resume(halted).record
    cloud.passes(DAY_S)
    cloud.record = published(resumed, 3, cloud.wall_s)
    cloud.passes(DAY_S)
    cloud.turn()
    assert cloud.record.since_s == cloud.wall_s
    cloud.watches(DEADLINE_S - TURN_S)
    assert cloud.record.phase is Phase.RUNNING


def test_a_rollout_that_rested_while_halted_is_resumed_at_no_time_to_come() -> None:
    cloud = watched()
    cloud.record = published(commands.halt(cloud.record).record, 2, cloud.wall_s)
    cloud.watches(200 * TURN_S)
    cloud.record = published(commands.resume(cloud.record).record, 3, cloud.wall_s)
    cloud.turn()
    cloud.restarts()
    cloud.turn()
    assert cloud.record.since_s is not None
    assert cloud.record.since_s <= cloud.wall_s
    assert cloud.record.seen_s > cloud.wall_s - NOTED_EVERY_S


def test_a_cloud_that_watches_undisturbed_changes_no_time_and_writes_once_a_minute() -> None:
    cloud = watched()
    before, since_s = cloud.writes, cloud.record.since_s
    offered = {course.offered_s for course in cloud.record.nodes.values()}
    cloud.watches(10 * NOTED_EVERY_S)
    assert cloud.writes - before == 10
    assert cloud.record.since_s == since_s
    assert {course.offered_s for course in cloud.record.nodes.values()} == offered


def test_a_rollout_that_has_ended_is_not_written_again_and_again() -> None:
    cloud = watched()
    cloud.nodes.says(State.ROLLED_BACK, *range(20))
    cloud.turn()
    assert cloud.record.phase is Phase.ABORTED
    before = cloud.writes
    cloud.watches(10 * NOTED_EVERY_S)
    assert cloud.writes == before


def test_a_clock_that_is_set_by_less_than_a_second_moves_nothing() -> None:
    cloud = watched()
    since_s = cloud.record.since_s
    for wanders_s in (SLACK_S / 2, -SLACK_S / 2):
        cloud.wall_s += wanders_s
        cloud.turn()
    assert cloud.record.since_s == since_s


def test_how_a_node_ended_and_when_stays_as_it_was() -> None:
    cloud = watched()
    cloud.nodes.says(State.COMMITTED, 3)
    cloud.turn()
    course = cloud.record.nodes["plant/node-3"]
    assert moved_on(cloud.record, DAY_S, cloud.wall_s + DAY_S).nodes["plant/node-3"] == course


def test_who_only_reads_the_record_of_a_cloud_that_is_down_sees_nobody_time_out() -> None:
    cloud = watched()
    later_s = cloud.wall_s + DAY_S
    seen = step(as_watched(cloud.record, later_s), AT_ONCE, cloud.nodes.nodes, later_s).record
    assert {course.outcome for course in seen.nodes.values()} == {None}
    assert as_watched(cloud.record, cloud.wall_s + NOTED_EVERY_S) == cloud.record


@pytest.mark.parametrize("seed", range(3))
def test_a_rollout_among_300_nodes_takes_its_course_through_nights_without_a_cloud(
    seed: int,
) -> None:
    """The cloud is away for a day in each wave; nodes that were offered the release go on."""
    rng = random.Random(seed)
    slow = [replace(each, fetch_s=rng.uniform(5, 3000)) for each in population(rng, 300)]
    ends = [_course(slow, seed, away_s=away_s) for away_s in (0.0, DAY_S)]
    assert ends[0] == ends[1]


def _course(traits: list[Traits], seed: int, *, away_s: float) -> list[object]:
    sim = World.of(traits, RolloutPlan(), salt=f"salt-{seed}")
    sight, was_away = Sight(), set[int]()
    while sim.cloud.record.phase is Phase.RUNNING:
        sim.now_s += LONGEST_LOOK_S
        if away_s and sim.cloud.record.since_s and sim.cloud.record.wave not in was_away:
            was_away.add(sim.cloud.record.wave)
            sim.now_s += away_s
        for node in sim.nodes:
            node.turn(sim.cloud.retained, sim.now_s)
        sim.cloud.record = sight.resumed(sim.cloud.record, sim.now_s, sim.now_s)
        sim.cloud.turn([node.seen(sim.now_s) for node in sim.nodes], sim.now_s)
        sight.note(sim.now_s, sim.now_s)
    return [sim.events, sim.cloud.record.phase, {node.version for node in sim.nodes}]
