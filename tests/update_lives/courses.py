"""How an update comes to take each row of the table: who publishes what, and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shared.releases.health import Health
from shared.releases.machine import (
    AFTER_THE_SWAP,
    BEFORE_THE_SWAP,
    ENDS,
    TRANSITIONS,
    UNDER_WAY,
    Event,
    State,
)
from shared.releases.rollout import Rollout
from tests.builders import nan_onnx
from tests.update_station import DEADLINE_S, Station, model_of, release

OLD, NEW, NEWER = 1, 7, 8

DYING = "dying"
"""The folder of a node that has died too often with a release that nothing has proved."""

NOTE, ADOPT, STOP = "note", "adopt", "stop"
"""The writes that are no row of the table: a manifest's number alone, another manifest's name, and
a stop on purpose, which is no evidence against what is in its probation."""

POINTS = ("before", "written", "after")
"""Where a life dies: before the write begins; the temporary file is written and has not its name
yet; the write is done and nobody was told."""


Act = Callable[[Station], None]
Row = tuple[State, Event | str]


@dataclass(frozen=True)
class Course:
    """How an update comes to take a row.

    Attributes:
        begins: on whose folder the first life begins.
        publishes: what is retained before it begins.
        at: what happens as long as the update is in a state.
        then: what is retained when the second life begins.
        on_disk: what the disk says before the row; None for the row's own state.
        end: state, seq and serving version to which the second life comes, unless the first one
            died after the swap.
        refuses: the disk takes no step out of this state, once.
    """

    publishes: Act
    end: tuple[State, int, str]
    begins: str = State.COMMITTED
    at: Mapping[State, Act] = field(default_factory=dict)
    then: Act | None = None
    on_disk: State | None = None
    refuses: State | None = None


def good(station: Station) -> None:
    station.publish(release(NEW), model_of(NEW))


def newer(station: Station) -> None:
    station.publish(release(NEWER), model_of(NEWER))


def without_its_chunks(station: Station) -> None:
    station.publish(release(NEW), model_of(NEW), chunks=0)


def expired(station: Station) -> None:
    station.publish(release(NEW, expires=5.0), model_of(NEW))


def answers_nan(station: Station) -> None:
    station.publish(release(NEW, nan_onnx()), nan_onnx())


def what_runs(station: Station) -> None:
    described = release(OLD, seq=NEW)
    station.publish(described, model_of(OLD))


def for_others(station: Station) -> None:
    nobody = Rollout(id="rollout-1", salt="salt", share=0.0)
    station.publish(release(NEW, rollout=nobody), model_of(NEW))


def the_same_again(station: Station) -> None:
    station.publish(release(NEW, seq=NEWER), model_of(NEW))


def breaks(station: Station) -> None:
    station.health = Health(batches=10, broken_batches=10)


def stop(station: Station) -> None:
    station.updater.farewell()


def too_late(station: Station) -> None:
    station.now_s += DEADLINE_S


ANOTHER = (State.COMMITTED, NEWER, str(NEWER))
ADOPTED = (State.COMMITTED, NEWER, str(NEW))
COMMITS = (State.COMMITTED, NEW, str(NEW))
CONFIRMS = (State.COMMITTED, NEW, str(OLD))


BEGINNINGS = (State.IDLE, *ENDS)
FORWARD = (
    Event.FETCH, Event.VERIFY, Event.STAGE, Event.PROVE, Event.ACTIVATE, Event.WATCH, Event.COMMIT,
)  # fmt: skip

BY_EVENT: Mapping[Event | str, Course] = {
    **{event: Course(good, COMMITS) for event in FORWARD},
    Event.REJECT: Course(expired, (State.REJECTED, NEW, str(OLD))),
    Event.TIME_OUT: Course(without_its_chunks, COMMITS, at={State.FETCHING: too_late}, then=good),
    NOTE: Course(for_others, (State.COMMITTED, OLD, str(OLD))),
}
BY_ROW: Mapping[Row, Course] = {
    **{(state, Event.OFFER): Course(good, COMMITS, begins=state) for state in BEGINNINGS},
    **{(state, Event.CONFIRM): Course(what_runs, CONFIRMS, begins=state) for state in ENDS},
    # What the last life left open cannot be taken up again: the disk is full for a moment.
    (State.IDLE, Event.CONFIRM): Course(
        what_runs, CONFIRMS, begins="interrupted", on_disk=State.FETCHING, refuses=State.IDLE
    ),
    **{
        (state, Event.SUPERSEDE): Course(good, ANOTHER, at={state: newer}, then=newer)
        for state in BEFORE_THE_SWAP
    },
    # A disk is no fault of the release: it is taken again in the next life.
    **{(state, Event.FAIL): Course(good, COMMITS, refuses=state) for state in UNDER_WAY},
    # It was committed, nothing had proved it, and the node has died with it.
    (State.COMMITTED, Event.FAIL): Course(good, (State.ROLLED_BACK, NEW, str(OLD)), begins=DYING),
    (State.SMOKE, Event.FAIL): Course(answers_nan, (State.FAILED_NO_STATE_CHANGE, NEW, str(OLD))),
    (State.PROBATION, Event.FAIL): Course(
        good, (State.ROLLED_BACK, NEW, str(OLD)), at={State.PROBATION: breaks}
    ),
    **{(state, STOP): Course(good, COMMITS, at={state: stop}) for state in AFTER_THE_SWAP},
    **{
        (state, ADOPT): Course(good, ADOPTED, at={state: the_same_again}, then=the_same_again)
        for state in BEFORE_THE_SWAP
    },
}


def course_of(row: Row) -> Course:
    """Returns how an update comes to take a row.

    Raises:
        KeyError: a row that nobody has written a course for.
    """
    return BY_EVENT.get(row[1]) or BY_ROW[row]


ROWS: tuple[Row, ...] = (
    *TRANSITIONS,
    (State.COMMITTED, NOTE),
    *((state, ADOPT) for state in BEFORE_THE_SWAP),
    *((state, STOP) for state in AFTER_THE_SWAP),
)
CASES: Mapping[str, tuple[Row, str]] = {
    f"{row[0].value}-{row[1]}-{point}".replace(" ", "_"): (row, point)
    for row in ROWS
    for point in POINTS
}


def after(row: Row) -> State:
    """Returns the state that a row leads to."""
    state, event = row
    if isinstance(event, Event):
        return TRANSITIONS[state, event]
    return State.SMOKE if event == STOP else state
