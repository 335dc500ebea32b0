"""The table of an update's course is complete, and nothing outside it is possible."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.releases.machine import (
    AFTER_THE_SWAP,
    BEFORE_THE_SWAP,
    ENDS,
    TRANSITIONS,
    UNDER_WAY,
    Event,
    IllegalTransitionError,
    State,
    advance,
)

PAIRS = list(itertools.product(State, Event))


@pytest.mark.parametrize(
    ("state", "event"), PAIRS, ids=[f"{state.value}-{event.value}" for state, event in PAIRS]
)
def test_a_pair_is_in_the_table_or_raises(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert advance(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransitionError, match=f"'{event.value}' is not possible in"):
            advance(state, event)


def reachable(start: State) -> set[State]:
    found, frontier = {start}, [start]
    while frontier:
        state = frontier.pop()
        after = {new for (old, _), new in TRANSITIONS.items() if old is state} - found
        found |= after
        frontier += after
    return found


def test_every_state_is_reached_from_idle() -> None:
    assert reachable(State.IDLE) == set(State)


@pytest.mark.parametrize("state", State)
def test_from_every_state_an_update_can_still_be_committed(state: State) -> None:
    assert State.COMMITTED in reachable(state)


@pytest.mark.parametrize("state", UNDER_WAY)
def test_an_update_under_way_can_always_fail(state: State) -> None:
    expected = State.ROLLED_BACK if state in AFTER_THE_SWAP else State.FAILED_NO_STATE_CHANGE
    assert advance(state, Event.FAIL) is expected


@pytest.mark.parametrize("state", (State.IDLE, *ENDS))
def test_an_end_takes_nothing_but_a_new_offer_or_that_it_runs_already(state: State) -> None:
    taken = {event for event in Event if (state, event) in TRANSITIONS}
    # What nothing had proved when it was committed may still be rolled back.
    undone = {Event.FAIL} if state is State.COMMITTED else set()
    assert taken == {Event.OFFER, Event.CONFIRM} | undone
    assert advance(state, Event.CONFIRM) is State.COMMITTED
    assert advance(state, Event.OFFER) is State.OFFERED


@pytest.mark.parametrize("state", AFTER_THE_SWAP)
def test_after_the_swap_no_newer_release_supersedes(state: State) -> None:
    with pytest.raises(IllegalTransitionError):
        advance(state, Event.SUPERSEDE)


def test_the_groups_part_the_states() -> None:
    assert sorted([State.IDLE, *BEFORE_THE_SWAP, *AFTER_THE_SWAP, *ENDS]) == sorted(State)


def test_the_ends_are_those_of_the_design() -> None:
    assert set(ENDS) == {
        State.COMMITTED, State.REJECTED, State.FAILED_NO_STATE_CHANGE, State.ROLLED_BACK,
        State.TIMED_OUT, State.SUPERSEDED,
    }  # fmt: skip


@pytest.mark.parametrize("state", UNDER_WAY)
def test_what_is_under_way_does_not_run_already(state: State) -> None:
    with pytest.raises(IllegalTransitionError):
        advance(state, Event.CONFIRM)


CHANGING = [event for event in Event if event is not Event.CONFIRM]


@given(st.lists(st.sampled_from(CHANGING), max_size=40))
def test_success_is_only_ever_reached_through_the_whole_course(events: list[Event]) -> None:
    state, course = State.IDLE, list[State]()
    for event in events:
        try:
            state = advance(state, event)
        except IllegalTransitionError:
            continue
        course = [] if state is State.OFFERED else course
        course.append(state)
    if state is State.COMMITTED:
        assert course == [
            State.OFFERED, State.FETCHING, State.VERIFIED, State.STAGED, State.SMOKE,
            State.ACTIVATING, State.PROBATION, State.COMMITTED,
        ]  # fmt: skip
