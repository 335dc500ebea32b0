"""Whether a rollout may be followed by another, and what stands until then. Pure."""

from __future__ import annotations

from cloud.rollout.decision import move
from cloud.rollout.fleet import Fleet
from cloud.rollout.phases import ENDED, TAKEN_BACK, Event, IllegalCommandError, Phase, possible
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.proven import is_carried
from cloud.rollout.record import RolloutRecord

ANOTHER = "publish or offer a version that you trust"


def refusal(record: RolloutRecord | None, *, by_itself: bool = False) -> str:
    """Returns why a rollout may not be followed by another now; empty if it may.

    One that a person has halted, and that has nothing to go back to, a person may replace: there is
    no other way out but to go on with it.

    Args:
        record: the present one.
        by_itself: whether no person has asked for the other.
    """
    if record is None or record.phase is Phase.RUNNING or record.phase in ENDED:
        return ""
    ways = possible(record.phase, has_base=bool(record.base))
    if record.phase is Phase.HALTED and not record.base:
        if not by_itself:
            return ""
        ways += f"; {ANOTHER}"
    return (
        f"the rollout of version {record.version} is {record.phase.value}, and whoever did that "
        f"decides first; possible: {ways}"
    )


def check_first(plan: RolloutPlan, fleet: Fleet, channel: str, *, has_released: bool) -> None:
    """Refuses a fleet of which nobody could go first.

    Args:
        plan: the waves.
        fleet: all nodes of the channel.
        channel: the channel.
        has_released: whether a release was ever published on it.

    Raises:
        IllegalCommandError: no node is online, or none is known though there was a release.
    """
    if fleet and len(plan.waves) > 1 and not any(node.online for node in fleet):
        raise IllegalCommandError(
            f"none of the {len(fleet)} nodes of {channel} is online, so none could go first; "
            "wait until one is"
        )
    if not fleet and has_released:
        raise IllegalCommandError(
            f"no node of {channel} is known, though releases were published: another would "
            "go to everybody at once; wait until the cloud node has heard of the fleet, see "
            "`escalon release status`"
        )


def superseded(
    before: RolloutRecord, after: RolloutRecord, plan: RolloutPlan, fleet: Fleet
) -> RolloutRecord:
    """Returns a rollout as another ends it; one that runs no more is as it was.

    Args:
        before: it.
        after: the other one.
        plan: the waves.
        fleet: all nodes of the channel.
    """
    if before.phase is not Phase.RUNNING:
        return before
    reason = f"superseded by version {after.version} in rollout {after.id}"
    carried = is_carried(before, plan, fleet)
    return move(before, Event.REPLACE, reason, carried=carried).record


def standing(record: RolloutRecord | None, published: str) -> str:
    """Returns the version that the fleet is to run; empty if there is none.

    Args:
        record: the present rollout.
        published: version of the newest manifest.
    """
    if record is None:
        return published
    if record.phase in TAKEN_BACK:
        return record.base or record.version
    return record.version


def way_out(phase: Phase) -> str:
    """Returns what takes the place of a roll back that has nothing to bring back."""
    if phase is Phase.PAUSED:
        return f"halt, then {ANOTHER}"
    if phase is Phase.HALTED or (phase in ENDED and phase is not Phase.COMPLETED):
        return ANOTHER
    return f"halt, or {ANOTHER}"
