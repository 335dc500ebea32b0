"""What a rollout does by itself: goes on, waits, is aborted, is complete. Pure.

It is aborted as AWS IoT Jobs do it, on a share of failures among the executed, with a minimum
count; and a share of successes in a wave begins the next one, as in hawkBit's groups. Unlike there,
a node that stays silent is a failure.
"""

from __future__ import annotations

import msgspec

from cloud.rollout.decision import Decision, move
from cloud.rollout.fleet import Fleet
from cloud.rollout.observing import observe
from cloud.rollout.phases import WATCHED, Event, Phase
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.record import RolloutRecord
from cloud.rollout.standing import Verdict, stand
from cloud.rollout.tally import percent, shown, stragglers, tally_all, tally_wave
from cloud.rollout.waves import adds_nobody, at_wave, next_wave


def step(record: RolloutRecord, plan: RolloutPlan, fleet: Fleet, now_s: float) -> Decision:
    """Takes what the fleet says, and decides.

    Repeated with the record that it returned and nothing new, it decides nothing more.

    Args:
        record: the rollout.
        plan: its waves and limits.
        fleet: all nodes of the channel, as the broker has them: after a start, not before what is
            retained has come in, or the whole fleet seems silent.
        now_s: seconds since 1970, by the clock of the record's times; see ``sight.py``.
    """
    record = observe(record, plan, fleet, now_s)
    if record.phase not in WATCHED:
        return Decision(None, record, f"{record.phase.value}: {record.reason}")
    if record.seq == 0 or record.since_s is None:
        return Decision(None, record, f"{_where(record, plan)}: its manifest is not published yet")
    if harm := _harm(record, plan):
        return move(record, Event.ABORT, f"{_where(record, plan)}: {harm}")
    return _judge(record, plan, fleet, now_s, now_s - record.since_s)


def _harm(record: RolloutRecord, plan: RolloutPlan) -> str:
    """Returns why the failures stop the rollout; empty if they do not."""
    for tally, of in ((tally_wave(record), "of the wave"), (tally_all(record), "in all")):
        if tally.executed >= plan.abort_min_executed and tally.error_share >= plan.abort_share:
            return (
                f"{tally.failed} of {tally.executed} executed {of} failed "
                f"({percent(tally.error_share)}, {percent(plan.abort_share)} abort): "
                f"{tally.failures_in_words()}"
            )
    return ""


def _judge(
    record: RolloutRecord, plan: RolloutPlan, fleet: Fleet, now_s: float, age_s: float
) -> Decision:
    standing = stand(record, plan, fleet, age_s)
    said = f"{_where(record, plan)}: {standing.in_words()}"
    if record.phase is Phase.PAUSED:
        return Decision(None, record, said)
    match standing.verdict(plan.min_success):
        case Verdict.FAIL:
            needed = "every canary" if standing.failed else percent(plan.min_success)
            return move(record, Event.ABORT, f"{said}; {needed} must")
        case Verdict.WAIT:
            return Decision(None, msgspec.structs.replace(record, passed_s=None), said)
        case Verdict.PASS:
            return _soak(record, plan, fleet, now_s, said)


def _soak(
    record: RolloutRecord, plan: RolloutPlan, fleet: Fleet, now_s: float, said: str
) -> Decision:
    """Goes on once enough nodes have had the release for long enough."""
    passed_s = now_s if record.passed_s is None else record.passed_s
    record = msgspec.structs.replace(record, passed_s=passed_s)
    soak_s, soaked_s = plan.waves[plan.number(record.share)].soak_s, now_s - passed_s
    # A wave of nobody has nothing to soak.
    if soaked_s < soak_s and tally_wave(record).executed:
        return Decision(None, record, f"{said}, soaked {soaked_s:.0f} of {soak_s:g} s")
    return _go_on(record, plan, fleet, f"{said}, soaked {soaked_s:.0f} s")


def _go_on(record: RolloutRecord, plan: RolloutPlan, fleet: Fleet, said: str) -> Decision:
    if not fleet:
        # A broker that has forgotten the fleet: what looks like a wave of nobody is not.
        return Decision(None, record, f"{said}; no node is known any more")
    following = next_wave(record, plan, fleet)
    if following is not None and not adds_nobody(record, plan, fleet, following):
        skipped = following - plan.number(record.share) - 1
        note = f"; {skipped} skipped: they add nobody" if skipped > 0 else ""
        return move(record, Event.ADVANCE, f"{said}{note}", **at_wave(record, plan, following))
    left = stragglers(record, fleet)
    note = f"; still without it: {shown(left)}" if left else ""
    changes = {} if following is None else at_wave(record, plan, following)
    return move(record, Event.COMPLETE, f"{said}{note}", **changes)


def _where(record: RolloutRecord, plan: RolloutPlan) -> str:
    return f"wave {plan.number(record.share) + 1} of {len(plan.waves)}"
