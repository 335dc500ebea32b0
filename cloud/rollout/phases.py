"""The course of a rollout as a table. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from shared.errors import EscalonError


class Phase(StrEnum):
    """Where a rollout is."""

    RUNNING = "running"
    PAUSED = "paused"
    HALTED = "halted"
    ABORTED = "aborted"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled back"
    SUPERSEDED = "superseded"


class Event(StrEnum):
    """What may happen to a rollout."""

    ADVANCE = "advance"
    COMPLETE = "complete"
    ABORT = "abort"
    PROMOTE = "promote"
    PAUSE = "pause"
    RESUME = "resume"
    HALT = "halt"
    ROLL_BACK = "roll back"
    REPLACE = "replace"


COMMANDS = (Event.PROMOTE, Event.PAUSE, Event.RESUME, Event.HALT, Event.ROLL_BACK)
"""What people do; the rest the rollout does by itself."""

WATCHED = (Phase.RUNNING, Phase.PAUSED)
"""Here the release is on offer and its failures are counted against it."""

TAKEN_BACK = (Phase.ABORTED, Phase.ROLLED_BACK)
"""Here the release did harm, or somebody thought so."""

ENDED = (Phase.COMPLETED, Phase.ABORTED, Phase.ROLLED_BACK, Phase.SUPERSEDED)
"""After these a rollout of another version may begin, without a word to this one."""


class IllegalCommandError(EscalonError):
    """The rollout is in no phase for it."""


TRANSITIONS: Mapping[tuple[Phase, Event], Phase] = MappingProxyType(
    {
        (Phase.RUNNING, Event.ADVANCE): Phase.RUNNING,
        (Phase.RUNNING, Event.PROMOTE): Phase.RUNNING,
        (Phase.RUNNING, Event.COMPLETE): Phase.COMPLETED,
        (Phase.RUNNING, Event.PAUSE): Phase.PAUSED,
        (Phase.PAUSED, Event.RESUME): Phase.RUNNING,
        **{(phase, Event.ABORT): Phase.ABORTED for phase in WATCHED},
        **{(phase, Event.HALT): Phase.HALTED for phase in (*WATCHED, Phase.COMPLETED)},
        (Phase.HALTED, Event.RESUME): Phase.RUNNING,
        **{
            (phase, Event.ROLL_BACK): Phase.ROLLED_BACK
            for phase in Phase
            if phase not in (Phase.ROLLED_BACK, Phase.SUPERSEDED)
        },
        (Phase.RUNNING, Event.REPLACE): Phase.SUPERSEDED,
    }
)


def possible(phase: Phase, *, has_base: bool = True) -> str:
    """Returns in words what people may do to a rollout in a phase; empty for nothing.

    Args:
        phase: the phase.
        has_base: whether there is a release from before it; nothing is rolled back else.
    """
    named = [each for each in COMMANDS if (phase, each) in TRANSITIONS]
    return ", ".join(each.value for each in named if has_base or each is not Event.ROLL_BACK)


def after(phase: Phase, event: Event, *, has_base: bool = True) -> Phase:
    """Returns the phase after an event.

    Args:
        phase: the phase.
        event: what is to happen.
        has_base: as ``possible`` has it, for the error.

    Raises:
        IllegalCommandError: the table does not know the event for this phase.
    """
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        ways = possible(phase, has_base=has_base) or "nothing, publish a new release"
        raise IllegalCommandError(
            f"{event.value!r} is not possible: the rollout is {phase.value}; possible: {ways}"
        ) from None


def diagram() -> str:
    """Returns the table as a Mermaid state diagram."""
    ids = {phase: phase.value.replace(" ", "_") for phase in Phase}
    lines = ["stateDiagram-v2", f"    [*] --> {ids[Phase.RUNNING]}"]
    lines += [
        f"    {ids[phase]} --> {ids[then]}: {event.value}"
        for (phase, event), then in TRANSITIONS.items()
    ]
    return "\n".join(lines)
