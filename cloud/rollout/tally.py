"""Counts how a rollout goes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from cloud.rollout.fleet import Fleet
from cloud.rollout.record import NodeCourse, RolloutRecord
from shared.releases.machine import State
from shared.releases.rollout import takes_part

SHOWN = 5


@dataclass(frozen=True)
class Tally:
    """How many of a set of nodes stand where.

    Attributes:
        committed: nodes that have the release.
        failures: how many ended otherwise, by outcome.
        open: nodes that have not ended.
        superseded: nodes between two manifests of the rollout, which are in no other count.
        said: what failed nodes said most often.
    """

    committed: int
    failures: Counter[State]
    open: int
    superseded: int
    said: str

    @classmethod
    def of(cls, courses: Iterable[NodeCourse]) -> Tally:
        """Counts courses."""
        courses = list(courses)
        outcomes = Counter(each.outcome for each in courses if each.outcome is not None)
        committed = outcomes.pop(State.COMMITTED, 0)
        superseded = sum(each.superseded for each in courses)
        ended = committed + outcomes.total()
        return cls(
            committed, outcomes, len(courses) - ended - superseded, superseded, _said(courses)
        )

    @property
    def failed(self) -> int:
        """Nodes that ended without the release."""
        return self.failures.total()

    @property
    def executed(self) -> int:
        """Nodes that ended, in either way."""
        return self.committed + self.failed

    @property
    def error_share(self) -> float:
        """Share of failures among the nodes that ended, 0 to 1."""
        return self.failed / self.executed if self.executed else 0.0

    def failures_in_words(self) -> str:
        """Returns for example ``2 ROLLED_BACK, 1 TIMED_OUT``, with what most of them said."""
        counts = ", ".join(f"{count} {state}" for state, count in self.failures.most_common())
        return f"{counts}; most often: {self.said}" if self.said else counts


def _said(courses: list[NodeCourse]) -> str:
    failed = (each for each in courses if each.outcome not in (None, State.COMMITTED))
    reasons = Counter(each.reason for each in failed if each.reason)
    return min(reasons, key=lambda each: (-reasons[each], each), default="")


def tally_wave(record: RolloutRecord) -> Tally:
    """Returns how the present wave stands."""
    return Tally.of(each for each in record.nodes.values() if each.wave == record.wave)


def tally_all(record: RolloutRecord) -> Tally:
    """Returns how the whole rollout stands."""
    return Tally.of(record.nodes.values())


def absent(record: RolloutRecord, fleet: Fleet) -> list[str]:
    """Returns who takes part and was never there to be offered the release, sorted."""
    rollout = record.rollout
    return sorted(
        node.name
        for node in fleet
        if node.name not in record.nodes and takes_part(rollout, node.site, node.node)
    )


def stragglers(record: RolloutRecord, fleet: Fleet) -> list[str]:
    """Returns who takes part and has not ended by itself, with what is known of each, sorted."""
    away = [f"{name} (offline)" for name in absent(record, fleet)]
    silent = [
        f"{name} ({'silent' if course.outcome is State.TIMED_OUT else 'under way'})"
        for name, course in record.nodes.items()
        if course.outcome in (None, State.TIMED_OUT)
    ]
    return sorted(away + silent)


def shown(names: list[str]) -> str:
    """Returns the first few of a list in words."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def percent(share: float) -> str:
    """Returns a share in words, with three digits."""
    return f"{100 * share:.3g} %"
