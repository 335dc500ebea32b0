"""Which version a rollback brings back. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from cloud.rollout.fleet import Fleet, FleetNode
from cloud.rollout.phases import TAKEN_BACK, Phase
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.record import RolloutRecord
from shared.releases.machine import ENDS, State

PROVES_NOTHING = (State.TIMED_OUT, State.SUPERSEDED)
"""Ends that speak neither for a version nor against it."""


def proven(history: Iterable[RolloutRecord], version: str) -> str:
    """Returns the version that was proven last, before another one; empty if there is none.

    A version is proven by a rollout that is COMPLETED, and no longer by that once a later one was
    aborted or rolled back. What a rollout has for its base was proven when it began. Where nothing
    is proven, it is the latest that the fleet ran as a whole when another took its place: what
    stood then is better than nothing.

    Args:
        history: the rollouts so far, newest first; it may have gaps.
        version: which is to be rolled out.
    """
    unfit, carried = {version}, ""
    for record in history:
        if record.phase is Phase.COMPLETED and record.version not in unfit:
            return record.version
        if record.phase in TAKEN_BACK:
            unfit.add(record.version)
        if record.base and record.base not in unfit:
            return record.base
        if record.carried and record.version not in unfit:
            carried = carried or record.version
    return carried


def is_carried(record: RolloutRecord, plan: RolloutPlan, fleet: Fleet) -> bool:
    """Whether the fleet runs the version of a rollout that is not over: all but a few, none failed.

    Nodes without a model take a first release at once, long before a wave reaches them, so it is
    the fleet that is asked and not the waves so far.

    Args:
        record: the rollout.
        plan: so many of all nodes must have committed.
        fleet: all nodes of the channel.
    """
    ends = [_end(record, node) for node in fleet]
    if any(end not in (None, State.COMMITTED, *PROVES_NOTHING) for end in ends):
        return False
    return bool(ends) and ends.count(State.COMMITTED) >= plan.min_success * len(ends)


def _end(record: RolloutRecord, node: FleetNode) -> State | None:
    """Returns how the rollout ended on a node, as far as is known."""
    report, course = node.report_on(record.id), record.nodes.get(node.name)
    if report is not None and report.state in ENDS:
        return report.state
    return course.outcome if course is not None else None
