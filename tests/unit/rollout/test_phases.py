"""The table of a rollout's phases is complete, and nothing outside it is possible."""

from __future__ import annotations

import itertools

import pytest

from cloud.rollout.phases import (
    COMMANDS,
    TRANSITIONS,
    Event,
    IllegalCommandError,
    Phase,
    after,
    diagram,
)

PAIRS = list(itertools.product(Phase, Event))


@pytest.mark.parametrize(
    ("phase", "event"), PAIRS, ids=[f"{phase.value}-{event.value}" for phase, event in PAIRS]
)
def test_a_pair_is_in_the_table_or_raises(phase: Phase, event: Event) -> None:
    if (phase, event) in TRANSITIONS:
        assert after(phase, event) is TRANSITIONS[phase, event]
    else:
        with pytest.raises(IllegalCommandError, match=f"'{event.value}' is not possible: the"):
            after(phase, event)


@pytest.mark.parametrize("phase", Phase)
def test_the_error_names_what_is_possible(phase: Phase) -> None:
    impossible = next(event for event in Event if (phase, event) not in TRANSITIONS)
    with pytest.raises(IllegalCommandError) as told:
        after(phase, impossible)
    assert f"the rollout is {phase.value};" in str(told.value)
    for command in COMMANDS:
        listed = str(told.value).rsplit("possible: ", 1)[1].split(", ")
        assert (command.value in listed) == ((phase, command) in TRANSITIONS)


@pytest.mark.parametrize(
    "phase", [each for each in Phase if each not in (Phase.ROLLED_BACK, Phase.SUPERSEDED)]
)
def test_every_rollout_that_stands_can_be_rolled_back(phase: Phase) -> None:
    assert after(phase, Event.ROLL_BACK) is Phase.ROLLED_BACK


def test_a_rollout_that_a_person_has_stopped_is_not_replaced_by_another_release() -> None:
    assert after(Phase.RUNNING, Event.REPLACE) is Phase.SUPERSEDED
    for phase in (Phase.PAUSED, Phase.HALTED):
        with pytest.raises(IllegalCommandError):
            after(phase, Event.REPLACE)


def test_what_was_rolled_back_aborted_or_superseded_is_never_offered_again() -> None:
    for phase in (Phase.ABORTED, Phase.ROLLED_BACK, Phase.SUPERSEDED):
        assert {then for (now, _), then in TRANSITIONS.items() if now is phase} <= {
            Phase.ROLLED_BACK
        }


def test_the_diagram_has_a_line_for_each_transition() -> None:
    lines = diagram().splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> running"]
    assert "    completed --> rolled_back: roll back" in lines
    assert len(lines) == 2 + len(TRANSITIONS)
