"""A fleet of pure nodes under the real rollout code, in simulated time.

A node is the real table of an update's course and the real decision who takes part, with durations
and troubles drawn from a seed. The cloud is the real ``step``; between two steps it may be killed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from cloud.rollout.decision import Decision
from cloud.rollout.fleet import FleetNode, NodeReport
from cloud.rollout.phases import Event as RolloutEvent
from cloud.rollout.phases import Phase
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.record import Offer, RolloutRecord, published
from cloud.rollout.step import step
from cloud.rollout.waves import begin
from shared.releases.machine import AFTER_THE_SWAP, UNDER_WAY, Event, State, advance
from shared.releases.rollout import Rollout, takes_part

TICK_S = 30.0
HARDWARE = ("arm-a53", "arm-a72", "x86-avx2", "x86-vnni")

NEXT = {
    State.OFFERED: Event.FETCH,
    State.FETCHING: Event.VERIFY,
    State.VERIFIED: Event.STAGE,
    State.STAGED: Event.PROVE,
    State.SMOKE: Event.ACTIVATE,
    State.ACTIVATING: Event.WATCH,
    State.PROBATION: Event.COMMIT,
}


@dataclass(frozen=True)
class Retained:
    """The manifest at the broker."""

    seq: int
    offer: Offer


@dataclass(frozen=True)
class Traits:
    """How one node fares.

    Attributes:
        hardware: its class.
        fetch_s: how long it fetches.
        probation_s: how long it watches.
        fails_in: in this state the release fails, None for nowhere.
        dies_in: in this state it falls silent for good.
        away: when it is offline, as (from, to).
    """

    hardware: str = HARDWARE[0]
    fetch_s: float = 30.0
    probation_s: float = 60.0
    fails_in: State | None = None
    dies_in: State | None = None
    away: tuple[float, float] = (0.0, 0.0)


@dataclass
class Node:
    """One node.

    Attributes:
        states: all that it has been in under the new release.
        swapped_s: when it put the new release in place.
    """

    site: str
    name: str
    traits: Traits
    state: State = State.IDLE
    seq: int = 0
    version: str = "old"
    target: str = "old"
    due_s: float = 0.0
    rollout: str = ""
    report: NodeReport | None = None
    quarantined: bool = False
    dead: bool = False
    touched: bool = False
    swapped_s: float | None = None

    def online(self, now_s: float) -> bool:
        return not self.dead and not self.traits.away[0] <= now_s < self.traits.away[1]

    def seen(self, now_s: float) -> FleetNode:
        online = self.online(now_s)
        return FleetNode(self.site, self.name, self.traits.hardware, online, self.report)

    def turn(self, retained: Retained | None, now_s: float) -> None:
        if not self.online(now_s):
            return
        if retained and retained.seq > self.seq and self.state not in AFTER_THE_SWAP:
            self.take(retained, now_s)
        while self.state in UNDER_WAY and self.due_s <= now_s and not self.dead:
            self.proceed(now_s)

    def take(self, retained: Retained, now_s: float) -> None:
        self.seq = retained.seq
        rollout = retained.offer.rollout
        if self.state in UNDER_WAY:
            self.go(Event.SUPERSEDE, now_s)
        if retained.offer.halted or not self.is_in(rollout):
            return
        self.target = "old" if retained.offer.previous else "new"
        self.rollout = rollout.id if rollout else ""
        if self.version == self.target:
            return
        self.touched |= self.target == "new"
        self.go(Event.OFFER, now_s)
        if self.quarantined and self.target == "new":
            self.go(Event.REJECT, now_s, "it has failed on this node before")

    def is_in(self, rollout: Rollout | None) -> bool:
        return rollout is None or takes_part(rollout, self.site, self.name)

    def proceed(self, now_s: float) -> None:
        if self.target == "new" and self.state is self.traits.dies_in:
            self.dead = True
        elif self.target == "new" and self.state is self.traits.fails_in:
            self.quarantined = self.state in AFTER_THE_SWAP
            self.go(Event.FAIL, now_s, f"failed in {self.state}")
        else:
            self.go(NEXT[self.state], now_s)

    def go(self, event: Event, now_s: float, reason: str = "") -> None:
        self.state = advance(self.state, event)
        lasts = {State.FETCHING: self.traits.fetch_s, State.PROBATION: self.traits.probation_s}
        self.due_s = now_s + lasts.get(self.state, 0.0)
        self.report = NodeReport(self.rollout, self.state, reason, now_s)
        if self.state is State.ACTIVATING and self.target == "new":
            self.swapped_s = now_s
        if self.state is State.COMMITTED:
            self.version = self.target


def reloaded(record: RolloutRecord) -> RolloutRecord:
    return msgspec.json.decode(msgspec.json.encode(record), type=RolloutRecord)


@dataclass
class Cloud:
    """The cloud, its disk and the broker's retained manifest.

    Attributes:
        killed: asked before each durable act whether the process is killed there.
        reload: reads the record anew from its JSON wherever it was written.
        told: decisions that were more than nothing.
    """

    plan: RolloutPlan
    record: RolloutRecord
    killed: Callable[[], bool] = lambda: False
    reload: Callable[[RolloutRecord], RolloutRecord] = reloaded
    retained: Retained | None = None
    told: list[Decision] = field(default_factory=list)

    def turn(self, fleet: Sequence[FleetNode], now_s: float) -> None:
        decision = step(self.record, self.plan, fleet, now_s)
        self.carry_out(decision, now_s)

    def carry_out(self, decision: Decision, now_s: float) -> None:
        if self.killed():
            return
        self.record = self.reload(decision.record)
        if decision.event is not None:
            self.told.append(decision)
        if not decision.needs_seq or self.killed():
            return
        if self.retained is None or self.retained.offer != self.record.offer:
            seq = self.retained.seq + 1 if self.retained else 1
            self.retained = Retained(seq, self.record.offer)
        if self.killed():
            return
        self.record = self.reload(published(self.record, self.retained.seq, now_s))


@dataclass
class World:
    """Nodes, cloud and clock."""

    nodes: list[Node]
    cloud: Cloud
    now_s: float = 0.0

    @classmethod
    def of(cls, traits: Sequence[Traits], plan: RolloutPlan, salt: str) -> World:
        nodes = [Node(f"site-{i % 20}", f"node-{i}", each) for i, each in enumerate(traits)]
        fleet = [node.seen(0.0) for node in nodes]
        record = begin(plan, fleet, rollout="meter-7", channel="meter", salt=salt)
        return cls(nodes, Cloud(plan, record))

    def turn(self, lasts_s: float = TICK_S) -> None:
        self.now_s += lasts_s
        for node in self.nodes:
            node.turn(self.cloud.retained, self.now_s)
        self.cloud.turn([node.seen(self.now_s) for node in self.nodes], self.now_s)

    def until(self, *phases: Phase, within_s: float = 50_000.0) -> Iterator[None]:
        """Turns until the rollout is in one of the phases, and yields after each turn."""
        end_s = self.now_s + within_s
        while self.cloud.record.phase not in phases:
            if self.now_s > end_s:
                raise AssertionError(f"still {self.cloud.record.phase} at {self.now_s} s")
            self.turn()
            yield

    def run(self, *phases: Phase) -> None:
        for _ in self.until(*phases):
            pass

    def idle(self, duration_s: float) -> None:
        """Lets time go by in twenty long turns, whatever happens."""
        end_s = self.now_s + duration_s
        while self.now_s < end_s:
            self.turn(duration_s / 20)

    def in_wave(self, number: int) -> list[Node]:
        """Returns the nodes that a wave of the plan adds."""
        waves, record = self.cloud.plan.waves, self.cloud.record
        now = msgspec.structs.replace(record.rollout, share=waves[number].share)
        before = msgspec.structs.replace(
            record.rollout,
            share=waves[number - 1].share if number else 0.0,
            nodes=record.canaries if number else (),
        )
        return [
            node
            for node in self.nodes
            if takes_part(now, node.site, node.name)
            and not takes_part(before, node.site, node.name)
        ]

    @property
    def events(self) -> list[tuple[RolloutEvent | None, int]]:
        """What was decided, each with the wave that it led to."""
        return [(each.event, each.record.wave) for each in self.cloud.told]


def population(rng: random.Random, size: int) -> list[Traits]:
    """Draws sound nodes of four hardware classes."""
    return [
        Traits(
            hardware=rng.choice(HARDWARE),
            fetch_s=rng.uniform(5, 120),
            probation_s=rng.uniform(60, 90),
        )
        for _ in range(size)
    ]


def spoiled(
    traits: Sequence[Traits], rng: random.Random, share: float, **changes: State
) -> list[Traits]:
    """Changes a random share of the nodes."""
    return [replace(each, **changes) if rng.random() < share else each for each in traits]  # type: ignore[arg-type]
