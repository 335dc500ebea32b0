"""Kills updates around each durable write by a real SIGKILL, and lets the next life go on.

A program of its own: it forks one process for each life, two lives for each case. For each row of
the table of an update's course it makes the case that takes this row. It prints, as a line of JSON
for each case, what the first life left on the disk and what came of the second.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry

from shared.metrics import NodeMetrics
from shared.releases.blobs import BlobStore
from shared.releases.health import Health
from shared.releases.machine import State
from shared.releases.manifest import Manifest
from shared.releases.record import ChannelFile
from shared.releases.standing import DEADLY
from shared.releases.trust import found_trust, open_first, sign_trust
from shared.releases.trust_follower import TrustFollower
from shared.releases.trust_store import TrustStore
from tests.builders import CHANNEL, nan_onnx
from tests.fakes import FakeBroker, FakeLink
from tests.update_lives.courses import (
    CASES,
    DYING,
    NEW,
    OLD,
    Act,
    breaks,
    course_of,
    good,
    too_late,
)
from tests.update_lives.gateways import begin_gateway, relaying
from tests.update_lives.life import (
    KEY,
    Outcome,
    die,
    die_at,
    die_at_change,
    forked,
    life,
    live,
    refuse_once,
)
from tests.update_station import TOPICS, Station, model_of, release

WORKERS = 2
FETCHING = (State.FETCHING, State.VERIFIED)

# On what they begin


def leave(station: Station) -> None:
    """Ends this process, without a word to the station."""
    os._exit(0)


BEFORE: Mapping[str, tuple[Manifest | None, bytes, Mapping[State, Act]]] = {
    State.COMMITTED: (None, b"", {}),
    State.REJECTED: (release(2, expires=5.0), model_of(2), {}),
    State.FAILED_NO_STATE_CHANGE: (release(2, nan_onnx()), nan_onnx(), {}),
    State.ROLLED_BACK: (release(2), model_of(2), {State.PROBATION: breaks}),
    State.TIMED_OUT: (release(2), b"", {State.FETCHING: too_late}),
    "interrupted": (release(2), b"", {State.FETCHING: leave}),
    State.SUPERSEDED: (
        release(2),
        b"",
        {State.FETCHING: lambda it: it.publish(release(2, seq=3, state="halted"), b"")},
    ),
}


def begin(folder: Path) -> None:
    """Makes the folder of a node that serves release 1 and whose last update ended as it says."""
    folder.mkdir()
    name = folder.name.removeprefix("begins-")
    if name != State.IDLE:
        status, _ = forked(lambda: begin_in(folder, name))
        assert status == 0, f"{folder.name} could not be made"


def begin_in(folder: Path, name: str) -> Outcome:
    """Runs the node whose folder it is."""
    station = Station(folder, KEY, FakeBroker())
    station.start()
    station.publish(release(OLD), model_of(OLD))
    station.run_to(State.PROBATION, OLD)
    station.health = Health(batches=20, samples=20)
    station.commit(OLD)
    if name == DYING:
        return die_again_and_again(station)
    described, data, at = BEFORE[name]
    if described is not None:
        station.publish(described, data)
        live(station, at)
    assert station.record.state == name.replace("interrupted", "FETCHING"), station.reports[-1]
    return {}


def die_again_and_again(station: Station) -> Outcome:
    """Commits a release that nothing proves, and dies with it as often as one may."""
    good(station)
    station.commit(NEW)
    for _ in range(DEADLY - 1):
        station.updater.start()
    assert station.record.deaths == DEADLY - 1
    return {}


def began(folder: Path, name: str) -> None:
    """Copies the folder on which a life begins."""
    shutil.copytree(folder.parent / f"begins-{name}", folder)


# One case


def case(folder: Path, name: str) -> Outcome:
    """Runs the two lives of a case."""
    row, point = CASES[name]
    course = course_of(row)
    began(folder, course.begins)

    def first() -> Outcome:
        die_at(row, point)
        if course.refuses is not None:
            refuse_once(course.refuses)
        return life(folder, course.publishes, course.at)

    status, _ = forked(first)
    record = ChannelFile.of(folder, CHANNEL).read()
    blobs = BlobStore(folder / "models" / CHANNEL)
    death = {
        "status": status,
        "state": record.state,
        "whole": all(blobs.path(each.sha256).exists() for each in record.standing),
        "active": None if record.active is None else record.active.sha256,
    }
    again, outcome = forked(lambda: life(folder, course.then or course.publishes, {}))
    return {"case": name, "death": death, "status": again, **outcome}


def fetching(folder: Path, number: int) -> Outcome:
    """Dies at the nth change of the disk while the files come and are put together."""
    shutil.copytree(folder.parents[1] / f"begins-{State.COMMITTED}", folder)

    def first() -> Outcome:
        station = Station(folder, KEY, FakeBroker())

        def here() -> bool:
            return station.state is not None and station.state[0] in FETCHING

        die_at_change(number, here)
        good(station)
        station.start()
        live(station, {}, State.STAGED)
        return {}

    status, _ = forked(first)
    again, outcome = forked(lambda: life(folder, good, {}, State.STAGED))
    return {"case": f"fetching-{number}", "killed": bool(status), "status": again, **outcome}


def killing(folder: Path) -> Outcome:
    """Lives three times with a release whose first batch ends the process."""
    began(folder, State.COMMITTED)

    def deadly() -> Outcome:
        def batch(station: Station) -> None:
            if station.version == str(NEW):
                die()

        return life(folder, good, {State.ACTIVATING: batch, State.PROBATION: batch})

    lives = [forked(deadly) for _ in range(3)]
    return {"case": "killing", "statuses": [status for status, _ in lives], **lives[-1][1]}


def trusting(folder: Path, number: int) -> Outcome:
    """Dies at the nth change of the disk while two versions of the trust document come."""
    folder.mkdir()
    first = found_trust([KEY], [KEY], 1000.0)
    (folder / "trust.signed").write_bytes(first)
    second = msgspec.structs.replace(open_first(first), version=2, key_epoch=2)
    third = msgspec.structs.replace(second, version=3)
    envelopes = {1: first, 2: sign_trust(second, [KEY]), 3: sign_trust(third, [KEY])}

    def follow() -> Outcome:
        hub = FakeBroker()
        for version, envelope in envelopes.items():
            hub.publish(TOPICS.trust(version), envelope, retain=True)
        link, metrics = FakeLink(hub), NodeMetrics(CollectorRegistry())
        store = TrustStore(folder / "trust.signed", folder)
        follower = TrustFollower(store, link, TOPICS, metrics, lambda: None)
        follower.start()
        while messages := link.receive():
            for message in messages:
                follower.on_message(message.topic, message.payload)
        return {
            "version": follower.current.version,
            "all": store.envelopes == envelopes,
            "left": sorted(path.name for path in (folder / "trust").iterdir()),
        }

    def dying() -> Outcome:
        die_at_change(number, lambda: True)
        return follow()

    status, _ = forked(dying)
    again, outcome = forked(follow)
    return {"case": f"trusting-{number}", "killed": bool(status), "status": again, **outcome}


# All of them

Job = tuple[str, Path, str]


def work(job: Job) -> list[Outcome]:
    """Does a job: a case, or all cases of a kind that a run must count."""
    kind, folder, name = job
    match kind:
        case "row":
            return [case(folder / name, name)]
        case "killing":
            return [killing(folder / "killing")]
        case "fetching":
            return until_nothing_dies(folder / "fetching", fetching)
        case "relaying":
            begin_gateway(folder / "begins-gateway")
            return until_nothing_dies(folder / "relaying", relaying)
    return until_nothing_dies(folder / "trusting", trusting)


def until_nothing_dies(folder: Path, kind: Callable[[Path, int], Outcome]) -> list[Outcome]:
    """Dies at every change of the disk in turn, until a life comes to its end."""
    folder.mkdir()
    outcomes: list[Outcome] = []
    while not outcomes or outcomes[-1]["killed"]:
        number = len(outcomes) + 1
        outcomes.append(kind(folder / str(number), number))
    return outcomes


def run(folder: Path, names: Sequence[str]) -> None:
    """Runs cases, two at a time, and prints what came of them."""
    begins = {course_of(CASES[name][0]).begins for name in names} | {State.COMMITTED}
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        pool.map(begin, [folder / f"begins-{name}" for name in sorted(begins)], chunksize=1)
        jobs = [(kind, folder, "") for kind in ("fetching", "relaying", "trusting", "killing")]
        jobs += [("row", folder, name) for name in names]
        for outcomes in pool.imap_unordered(work, jobs):
            for outcome in outcomes:
                print(json.dumps(outcome), flush=True)  # noqa: T201 - its result


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:] or list(CASES))
