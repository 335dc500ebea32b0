"""How a rollout's present wave stands, and whether that is good enough. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from cloud.rollout.fleet import Fleet
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.record import RolloutRecord
from cloud.rollout.tally import Tally, absent, percent, shown, tally_all, tally_wave
from shared.releases.machine import State


class Verdict(Enum):
    """What a wave's standing means."""

    WAIT = auto()
    PASS = auto()
    FAIL = auto()


@dataclass(frozen=True)
class Standing:
    """How the present wave stands.

    Attributes:
        tally: of its nodes.
        late: whether its deadline is over; nobody is waited for any longer.
        missing: canaries that were never there to be offered the release, while they are awaited.
        failed: canaries that ended without it.
        committed_in_all: nodes that took the release in the whole rollout.
        away: nodes that take part and were never there, of all waves so far.
    """

    tally: Tally
    late: bool
    missing: list[str]
    failed: list[str]
    committed_in_all: int
    away: int

    @property
    def reached(self) -> int:
        """The nodes that are judged."""
        return self.tally.executed + (0 if self.late else self.tally.open)

    @property
    def awaited(self) -> bool:
        """Whether nodes are missing that must not be left out yet."""
        return bool(self.missing) or (self.tally.superseded > 0 and not self.late)

    def verdict(self, min_success: float) -> Verdict:
        """Returns whether the wave is good enough; that it must soak comes on top.

        Args:
            min_success: share of its nodes that must have committed.
        """
        if self.awaited:
            return Verdict.WAIT
        if not self.reached:
            # A wave of nobody proves nothing; the waves before it may have.
            proven = self.committed_in_all and (self.late or not self.away)
            return Verdict.PASS if proven else Verdict.WAIT
        if self.tally.committed / self.reached >= min_success and not self.failed:
            return Verdict.PASS
        return Verdict.FAIL if self.late or not self.tally.open else Verdict.WAIT

    def in_words(self) -> str:
        """Returns for example ``48 of 50 committed (96 %)``."""
        if not self.reached:
            parts = [f"no node has it yet ({self.away} offline)"]
        else:
            share = percent(self.tally.committed / self.reached)
            parts = [f"{self.tally.committed} of {self.reached} committed ({share})"]
        if self.failed:
            parts.append(f"canary {shown(self.failed)} failed")
        if self.missing:
            parts.append(f"canary {shown(self.missing)} is offline")
        if self.tally.failed:
            parts.append(self.tally.failures_in_words())
        return ", ".join(parts)


def stand(record: RolloutRecord, plan: RolloutPlan, fleet: Fleet, age_s: float) -> Standing:
    """Returns how the present wave stands.

    Args:
        record: the rollout.
        plan: its deadline.
        fleet: all nodes of the channel.
        age_s: how long the wave's manifest has been out.
    """
    late = age_s >= plan.deadline_s
    away = absent(record, fleet)
    courses = {name: record.nodes[name] for name in record.canaries if name in record.nodes}
    alone = record.share == 0  # in a wave of canaries each speaks for its class and is waited for
    return Standing(
        tally=tally_wave(record),
        late=late,
        missing=[each for each in away if each in record.canaries] if alone and not late else [],
        failed=[
            name
            for name, course in courses.items()
            if course.wave == record.wave and course.outcome not in (None, State.COMMITTED)
        ],
        committed_in_all=tally_all(record).committed,
        away=len(away),
    )
