"""One life of a node around an updater, and the ways in which it dies."""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import StorageError
from shared.releases import journal
from shared.releases.blobs import BlobStore
from shared.releases.machine import Event, State
from shared.releases.record import ChannelFile, ChannelRecord
from tests.builders import CHANNEL
from tests.fakes import FakeBroker
from tests.update_lives.courses import ADOPT, NOTE, STOP, Act, Row
from tests.update_station import PROBATION_S, Station

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LIFE_S = 60
CHANGES = ((os, "fsync"), (os, "pwrite"), (os, "truncate"), (Path, "replace"), (Path, "unlink"))

Outcome = dict[str, Any]
Advance = Callable[[State, Event], State]
Write = Callable[[ChannelFile, ChannelRecord], None]


def forked(act: Callable[[], Outcome]) -> tuple[int, Outcome]:
    """Runs a life in a process of its own; returns its wait status and what it said."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(LIFE_S)
        try:
            os.write(writing, json.dumps(act()).encode())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    return os.waitpid(child, 0)[1], json.loads(text or b"{}")


# How it dies


def die() -> None:
    """Ends this process as a power cut does."""
    os.kill(os.getpid(), signal.SIGKILL)


def put(advance: Advance, write: Write) -> None:
    """Puts something in the way of the steps and the writes of a journal."""
    for owner, name, call in ((journal, "advance", advance), (ChannelFile, "write", write)):
        setattr(owner, name, call)


def die_at(row: Row, point: str) -> None:
    """Has this process die around the first write that takes a row."""
    taken: list[Row] = []
    advance: Advance = vars(journal)["advance"]
    write = ChannelFile.write

    def noting(state: State, event: Event) -> State:
        taken.append((state, event))
        return advance(state, event)

    def dying(file: ChannelFile, record: ChannelRecord) -> None:
        is_row = taken.pop() == row if taken else _is_unnamed(row, record)
        if not is_row:
            write(file, record)
            return
        if point == "before":
            die()
        if point == "written":
            os.fsync = lambda fd: die()
        write(file, record)
        die()

    put(noting, dying)


def _is_unnamed(row: Row, record: ChannelRecord) -> bool:
    """Whether a record that is written without a step is that of a row."""
    if row[1] == STOP:
        return record.state is State.SMOKE and record.pending is not None
    return row == (record.state, ADOPT if record.pending else NOTE)


def refuse_once(state: State) -> None:
    """Has the disk refuse the first step out of a state."""
    left: list[State] = []
    refused: list[State] = []
    advance: Advance = vars(journal)["advance"]
    write = ChannelFile.write

    def noting(state: State, event: Event) -> State:
        left.append(state)
        return advance(state, event)

    def full(file: ChannelFile, record: ChannelRecord) -> None:
        if left and left.pop() is state and not refused:
            refused.append(state)
            raise StorageError("No space left on device")
        write(file, record)

    put(noting, full)


def die_at_change(
    number: int, here: Callable[[], bool], changes: Sequence[tuple[Any, str]] = CHANGES
) -> None:
    """Has this process die right before the nth change, of the disk as a rule, that is made here.

    Args:
        number: n, from 1.
        here: whether a change counts.
        changes: the calls that make one: whose, and its name.
    """
    numbers = count(1)

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if here() and next(numbers) == number:
                die()
            return real(*args, **kwargs)

        return call

    for owner, called in changes:
        setattr(owner, called, counted(getattr(owner, called)))


# How it lives


def life(folder: Path, publishes: Act, at: Mapping[State, Act], to: State | None = None) -> Outcome:
    """Lives on a folder, with a broker that holds what is published."""
    station = Station(folder, KEY, FakeBroker())
    publishes(station)
    station.start()
    first = serving(station)
    live(station, at, to)
    return said(station, first)


def live(station: Station, at: Mapping[State, Act], to: State | None = None) -> None:
    """Takes turns until nothing goes on any more, or up to a state."""
    ended = 0
    done: set[State] = set()
    while ended < 3:
        station.turn()
        if station.state is None:
            continue
        state, _ = station.state
        if state is to:
            return
        if state in at and state not in done:
            done.add(state)
            at[state](station)
        station.now_s += {State.OFFERED: 1.0, State.PROBATION: PROBATION_S}.get(state, 0.0)
        ended = 0 if station.updater.busy or state is State.FETCHING else ended + 1


def serving(station: Station) -> tuple[str | None, bool | None]:
    """Returns the version that serves, and whether it answers as it should."""
    return (station.version, None if station.model is None else station.answers_rightly)


def said(station: Station, first: tuple[str | None, bool | None]) -> Outcome:
    """Returns what is to be known of a life that came to its end."""
    state, seq = station.state or (None, None)
    record = station.record
    blobs = BlobStore(station.folder / "models" / CHANNEL)
    return {
        "first": first,
        "last": serving(station),
        "end": (state, seq, station.version),
        "reason": station.reports[-1].reason,
        "course": [(report.seq, report.state) for report in station.reports],
        "quarantined": sorted(each.sha256 for each in record.quarantined),
        "seq": record.seq,
        "pending": record.pending is not None,
        "whole": all(blobs.path(each.sha256).exists() for each in record.standing),
        "left": sorted(path.name for path in (station.folder / "channels").iterdir()),
    }
