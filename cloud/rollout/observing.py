"""Takes into a rollout's record what the fleet says. Pure."""

from __future__ import annotations

import msgspec

from cloud.rollout.fleet import Fleet, FleetNode, NodeReport
from cloud.rollout.phases import WATCHED
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.record import MAX_REASON, NodeCourse, RolloutRecord
from shared.releases.machine import ENDS, State
from shared.releases.rollout import Rollout, takes_part


def observe(record: RolloutRecord, plan: RolloutPlan, fleet: Fleet, now_s: float) -> RolloutRecord:
    """Returns the record with the fleet's latest.

    New nodes join it and silent ones time out only while a manifest offers them the release;
    what nodes report is taken in every phase.

    Args:
        record: the rollout.
        plan: its deadline.
        fleet: all nodes of the channel.
        now_s: seconds since 1970.
    """
    on_offer = record.phase in WATCHED and record.seq > 0
    rollout, nodes = record.rollout, dict(record.nodes)
    for node in fleet:
        course, report = nodes.get(node.name), node.report_on(record.id)
        if course is None and on_offer and _is_reached(node, report, rollout):
            course = NodeCourse(wave=record.wave, offered_s=now_s)
        if course is not None:
            nodes[node.name] = _heard(course, report, now_s) if report else course
    if on_offer:
        nodes = {name: _timed(course, plan, now_s) for name, course in nodes.items()}
    return record if nodes == record.nodes else msgspec.structs.replace(record, nodes=nodes)


def _is_reached(node: FleetNode, report: NodeReport | None, rollout: Rollout) -> bool:
    """Whether a node can have the offer. Of one that is away nothing is expected yet."""
    return (node.online or report is not None) and takes_part(rollout, node.site, node.node)


def _heard(course: NodeCourse, report: NodeReport, now_s: float) -> NodeCourse:
    superseded = report.state is State.SUPERSEDED
    if course.outcome is None and superseded != course.superseded:
        # It begins anew with the next manifest of this rollout, and so does its time.
        course = msgspec.structs.replace(course, superseded=superseded, offered_s=now_s)
    if not _replaces(report.state, course.outcome):
        return course
    return msgspec.structs.replace(
        course,
        outcome=report.state,
        reason=report.reason[:MAX_REASON],
        ended_s=now_s,
        superseded=False,
    )


def _replaces(state: State, outcome: State | None) -> bool:
    """Whether what a node reports is a new outcome.

    A node that timed out may still commit, one whose disk was full may try again. One that has the
    release loses it by a rollback alone, and one that failed and then refuses to try the same again
    has failed once, for the first reason.
    """
    if state not in ENDS or state in (State.SUPERSEDED, outcome):
        return False
    if outcome is State.COMMITTED:
        return state is State.ROLLED_BACK
    return state is not State.REJECTED or outcome in (None, State.TIMED_OUT)


def _timed(course: NodeCourse, plan: RolloutPlan, now_s: float) -> NodeCourse:
    if course.outcome is not None or now_s - course.offered_s < plan.deadline_s:
        return course
    return msgspec.structs.replace(
        course,
        outcome=State.TIMED_OUT,
        reason=f"no end within {plan.deadline_s:g} s",
        ended_s=now_s,
        superseded=False,
    )
