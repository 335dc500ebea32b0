"""What people do to a rollout. Pure; each raises where the rollout's phase does not allow it."""

from __future__ import annotations

from cloud.rollout.decision import Decision, move
from cloud.rollout.fleet import Fleet
from cloud.rollout.phases import Event, IllegalCommandError, Phase, after
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.record import RolloutRecord
from cloud.rollout.waves import at_wave, next_wave


def pause(record: RolloutRecord) -> Decision:
    """No wave follows. The manifest stays as it is: nodes of the waves so far go on.

    Raises:
        IllegalCommandError: the rollout is not running.
    """
    return move(record, Event.PAUSE, "no other wave begins")


def resume(record: RolloutRecord) -> Decision:
    """Goes on after a pause; after a halt, offers the release again to those who had not ended.

    Raises:
        IllegalCommandError: the rollout is neither paused nor halted.
    """
    if record.phase is not Phase.HALTED:
        return move(record, Event.RESUME, "resumed")
    ended = {name: course for name, course in record.nodes.items() if course.outcome is not None}
    return move(
        record, Event.RESUME, "resumed after a halt", nodes=ended, since_s=None, passed_s=None
    )


def halt(record: RolloutRecord) -> Decision:
    """Takes the offer back: who has not swapped yet stops, who has goes on to its end.

    Raises:
        IllegalCommandError: the rollout is stopped already.
    """
    return move(record, Event.HALT, "who has not swapped yet stops")


def roll_back(record: RolloutRecord) -> Decision:
    """Ends the rollout and has every node go back to the release from before it.

    Raises:
        IllegalCommandError: it is rolled back already.
    """
    return move(record, Event.ROLL_BACK, f"version {record.base} is for every node again")


def promote(record: RolloutRecord, plan: RolloutPlan, fleet: Fleet) -> Decision:
    """Begins the next wave that adds anybody, whatever the present one says. The abort rule stays.

    Args:
        record: the rollout.
        plan: its waves.
        fleet: all nodes of the channel.

    Raises:
        IllegalCommandError: the rollout is not running, or in its last wave, or no node is known.
    """
    # the phase first: it is the more telling error
    after(record.phase, Event.PROMOTE, has_base=bool(record.base))
    if not fleet:
        raise IllegalCommandError(
            f"'promote' is not possible: no node of {record.channel} is known, so every wave would "
            "be everybody; wait until the cloud node has heard of the fleet"
        )
    present = plan.number(record.share) + 1
    number = next_wave(record, plan, fleet)
    if number is None:
        raise IllegalCommandError(
            f"'promote' is not possible: wave {present} of {len(plan.waves)} is the last; "
            "it completes by itself"
        )
    reason = f"promoted from wave {present} to wave {number + 1} of {len(plan.waves)}"
    return move(record, Event.PROMOTE, reason, **at_wave(record, plan, number))
