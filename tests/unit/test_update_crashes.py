"""kill -9 around every durable write of every step, made from the table of an update's course."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.releases.machine import AFTER_THE_SWAP, TRANSITIONS, Event, State
from tests.builders import CHANNEL, file_of
from tests.gateway import DOWN
from tests.update_lives.courses import (
    CASES,
    DYING,
    NEW,
    OLD,
    POINTS,
    Row,
    after,
    course_of,
)
from tests.update_lives.gateways import BEFORE, COMES, chunk_topics, described
from tests.update_station import release

ROOT = Path(__file__).parents[2]
BOUND_S = 600
KILLED, WELL = signal.SIGKILL, 0

Outcome = dict[str, Any]
Outcomes = dict[str, Outcome]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What came of the cases that this run has chosen."""
    items = [each for each in request.session.items if isinstance(each, pytest.Function)]
    chosen = [
        str(each.callspec.params["name"])
        for each in items
        if each.path == request.path and "name" in each.fixturenames
    ]
    folder = tmp_path_factory.mktemp("lives")
    command = [sys.executable, "-m", "tests.update_lives", str(folder), *dict.fromkeys(chosen)]
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": "1"}  # it would be a thread at a fork
    run = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, timeout=BOUND_S
    )
    assert run.returncode == 0, run.stderr.decode()
    return {outcome["case"]: outcome for outcome in map(json.loads, run.stdout.splitlines())}


def of_kind(outcomes: Outcomes, kind: str) -> list[Outcome]:
    """Returns the cases of a kind in order; only the last one had nothing left to kill."""
    found = [outcome for name, outcome in outcomes.items() if name.startswith(f"{kind}-")]
    assert [outcome["killed"] for outcome in found] == [True] * (len(found) - 1) + [False]
    return found


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: f"{row[0].value}-{row[1].value}")
def test_each_row_of_the_table_has_a_course_that_takes_it(row: Row) -> None:
    assert course_of(row)
    assert {case for case in CASES.values() if case[0] == row} == {(row, point) for point in POINTS}


def on_disk(name: str) -> State:
    """Returns the state that the disk must say when the first life is dead."""
    row, point = CASES[name]
    if point == "after":
        return after(row)
    return course_of(row).on_disk or row[0]


def active_after(name: str) -> str | None:
    """Returns the file that the disk must say serves when the first life is dead."""
    begins, point = course_of(CASES[name][0]).begins, CASES[name][1]
    if begins == State.IDLE:
        return None
    if begins == DYING:
        return file_of(release(OLD if point == "after" else NEW)).sha256
    committed = CASES[name][0][1] is Event.COMMIT and on_disk(name) is State.COMMITTED
    return file_of(release(NEW if committed else OLD)).sha256


@pytest.mark.parametrize("name", CASES)
def test_a_kill_leaves_the_old_record_or_the_new_one_and_what_serves_is_whole(
    outcomes: Outcomes, name: str
) -> None:
    death = outcomes[name]["death"]
    assert death["status"] == KILLED
    assert death["state"] == on_disk(name)
    assert death["whole"]
    assert death["active"] == active_after(name)


@pytest.mark.parametrize("name", CASES)
def test_the_next_life_serves_at_once_and_comes_to_its_end(outcomes: Outcomes, name: str) -> None:
    outcome = outcomes[name]
    assert outcome["status"] == WELL
    course, state = course_of(CASES[name][0]), on_disk(name)
    versions = {file_of(release(seq)).sha256: str(seq) for seq in (OLD, NEW)}
    serving = versions.get(outcome["death"]["active"])
    if course.begins == DYING:
        serving = str(OLD)
    assert outcome["first"] == [serving, serving and True]
    crashed = state in AFTER_THE_SWAP
    end = (State.ROLLED_BACK, NEW, str(OLD)) if crashed else course.end
    assert tuple(outcome["end"]) == end
    assert outcome["last"] == [end[2], True]
    assert outcome["whole"]
    assert not outcome["pending"]
    assert outcome["left"] == [f"{CHANNEL}.record"]
    if crashed:
        assert outcome["reason"] == "the node died while it was new"
        assert file_of(release(NEW)).sha256 in outcome["quarantined"]
        assert (NEW, State.OFFERED) not in map(tuple, outcome["course"])


def test_a_kill_at_any_change_of_the_disk_while_files_come_is_made_good(outcomes: Outcomes) -> None:
    cases = of_kind(outcomes, "fetching")
    assert len(cases) > 2 * len(file_of(release(NEW)).chunks)
    for outcome in cases:
        assert outcome["status"] == WELL
        assert tuple(outcome["end"]) == (State.STAGED, NEW, str(OLD)), outcome["case"]
        assert outcome["first"] == outcome["last"] == [str(OLD), True]
        assert outcome["left"] == [f"{CHANNEL}.record"]
        assert outcome["quarantined"] == []


def test_a_kill_at_any_change_of_the_disk_while_trust_comes_loses_no_version(
    outcomes: Outcomes,
) -> None:
    cases = of_kind(outcomes, "trusting")
    assert len(cases) > 3 * 3
    for outcome in cases:
        assert outcome["status"] == WELL
        assert outcome["version"] == 3, outcome["case"]
        assert outcome["all"]
        assert outcome["left"] == ["1.trust", "2.trust", "3.trust"]


def test_a_gateway_that_is_killed_at_any_change_hands_a_release_down_whole_and_once(
    outcomes: Outcomes,
) -> None:
    cases = of_kind(outcomes, "relaying")
    before, comes = chunk_topics(BEFORE), chunk_topics(COMES)
    assert len(cases) > 3 * len(comes)
    others = {DOWN.releases(CHANNEL), DOWN.trust(1), DOWN.trust(2)}
    for outcome in cases:
        death, case = outcome["death"], outcome["case"]
        assert death["missing"] == [], case
        assert outcome["status"] == WELL
        assert (outcome["retained_seq"], outcome["missing"]) == (COMES, []), case
        assert outcome["manifests"] in ([BEFORE, COMES], [COMES])
        assert set(outcome["topics"]) == {*before, *comes, *others}, case
        # What the first life has published is not published again.
        sent = {topic: times for topic, times in outcome["sent"].items() if topic not in others}
        assert sent == dict.fromkeys(comes.keys() - set(death["topics"]), 1), case
        assert (outcome["seq"], outcome["standing"]) == (COMES, [COMES, BEFORE])
        assert set(outcome["files"]) == left_of_a_gateway(), case
        assert outcome["trust"] == ["1.trust", "2.trust"]


def left_of_a_gateway() -> set[str]:
    """Returns the files that a gateway has, of the release and of the one before."""
    artefacts = [each for seq in (BEFORE, COMES) for each in described(seq).release.artefacts]
    packed = [each for each in artefacts if each.encoding != "identity"]
    assert len(packed) == 2
    return {
        f"{CHANNEL}.record",
        *(f"{CHANNEL}/blobs/{each.sha256}" for each in artefacts),
        *(f"{CHANNEL}/packed/{each.sha256}" for each in packed),
    }


def test_a_version_whose_first_batch_kills_the_node_kills_it_once(outcomes: Outcomes) -> None:
    outcome = outcomes["killing"]
    assert outcome["statuses"] == [KILLED, WELL, WELL]
    assert tuple(outcome["end"]) == (State.ROLLED_BACK, NEW, str(OLD))
    assert outcome["first"] == outcome["last"] == [str(OLD), True]
    assert outcome["reason"] == "the node died while it was new"
