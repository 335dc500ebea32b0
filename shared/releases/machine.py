"""The course of an update as a table. Pure.

An event that the table does not know for a state raises, and the state stays as it was.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType

from shared.errors import EscalonError


class State(StrEnum):
    """Where an update is."""

    IDLE = "IDLE"
    OFFERED = "OFFERED"
    FETCHING = "FETCHING"
    VERIFIED = "VERIFIED"
    STAGED = "STAGED"
    SMOKE = "SMOKE"
    ACTIVATING = "ACTIVATING"
    PROBATION = "PROBATION"
    COMMITTED = "COMMITTED"
    REJECTED = "REJECTED"
    FAILED_NO_STATE_CHANGE = "FAILED_NO_STATE_CHANGE"
    ROLLED_BACK = "ROLLED_BACK"
    TIMED_OUT = "TIMED_OUT"
    SUPERSEDED = "SUPERSEDED"


class Event(StrEnum):
    """What may happen to an update."""

    OFFER = "offer"
    REJECT = "reject"
    FETCH = "fetch"
    VERIFY = "verify"
    STAGE = "stage"
    PROVE = "prove"
    ACTIVATE = "activate"
    WATCH = "watch"
    COMMIT = "commit"
    CONFIRM = "confirm"
    FAIL = "fail"
    TIME_OUT = "time out"
    SUPERSEDE = "supersede"


class IllegalTransitionError(EscalonError):
    """The event is not possible in the state."""


BEFORE_THE_SWAP = (State.OFFERED, State.FETCHING, State.VERIFIED, State.STAGED, State.SMOKE)
AFTER_THE_SWAP = (State.ACTIVATING, State.PROBATION)
UNDER_WAY = (*BEFORE_THE_SWAP, *AFTER_THE_SWAP)
ENDS = tuple(state for state in State if state not in (*UNDER_WAY, State.IDLE))

TRANSITIONS = MappingProxyType(
    {
        **{(state, Event.OFFER): State.OFFERED for state in (State.IDLE, *ENDS)},
        # What a manifest wants runs already: a wave that comes again, a rollback to what stayed.
        **{(state, Event.CONFIRM): State.COMMITTED for state in (State.IDLE, *ENDS)},
        (State.OFFERED, Event.REJECT): State.REJECTED,
        (State.OFFERED, Event.FETCH): State.FETCHING,
        (State.FETCHING, Event.TIME_OUT): State.TIMED_OUT,
        (State.FETCHING, Event.VERIFY): State.VERIFIED,
        (State.VERIFIED, Event.STAGE): State.STAGED,
        (State.STAGED, Event.PROVE): State.SMOKE,
        (State.SMOKE, Event.ACTIVATE): State.ACTIVATING,
        (State.ACTIVATING, Event.WATCH): State.PROBATION,
        (State.PROBATION, Event.COMMIT): State.COMMITTED,
        # Committed although nothing had tried it, and then the node died with it, again and again.
        (State.COMMITTED, Event.FAIL): State.ROLLED_BACK,
        **{(state, Event.FAIL): State.FAILED_NO_STATE_CHANGE for state in BEFORE_THE_SWAP},
        **{(state, Event.FAIL): State.ROLLED_BACK for state in AFTER_THE_SWAP},
        **{(state, Event.SUPERSEDE): State.SUPERSEDED for state in BEFORE_THE_SWAP},
    }
)


def advance(state: State, event: Event) -> State:
    """Returns the state after an event.

    Raises:
        IllegalTransitionError: the table does not know the event for this state.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransitionError(f"{event.value!r} is not possible in {state.value}") from None


def diagram() -> str:
    """Returns the table as a Mermaid state diagram. Events of one pair of states share an arrow."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, event), then in TRANSITIONS.items():
        arrows.setdefault((state, then), []).append(event.value)
    lines = [
        f"    {state} --> {then}: {', '.join(names)}" for (state, then), names in arrows.items()
    ]
    return "\n".join(["stateDiagram-v2", "    [*] --> IDLE", *lines])
