"""What is unconfirmed goes round, and holds up nothing that is new."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.spool import Spool, SpoolLimits
from tier2.window import REPEATS, SIZE, Window

RETRY_S = 10.0


class Rig:
    """A window on a spool whose keys are numbers."""

    def __init__(self, path: Path) -> None:
        self.spool = Spool(path, SpoolLimits(2**20, 3600.0))
        self.spool.open()
        self.window = Window(self.spool, RETRY_S)
        self._count = 0

    def add(self, count: int) -> None:
        self.spool.add_all([(str(self._count + each), b"x") for each in range(count)])
        self._count += count

    def send(self, now_s: float, *, at_most: int = 100) -> list[int]:
        sent = self.window.due(now_s)[:at_most]
        for entry in sent:
            self.window.sent(entry, now_s)
        return [int(entry.key) for entry in sent]

    def confirm(self, *numbers: int) -> None:
        keys = tuple(map(str, numbers))
        self.spool.remove(keys)
        self.window.confirmed(keys)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "s.sqlite")
    yield rig
    rig.spool.close()


def test_a_windowful_goes_oldest_first_and_the_next_as_room_is_made(rig: Rig) -> None:
    rig.add(SIZE + 2)
    assert rig.send(0.0) == list(range(SIZE))
    assert rig.send(0.1) == []
    rig.confirm(3)
    assert rig.send(0.2) == [SIZE]


def test_what_the_link_did_not_take_comes_first_the_next_time(rig: Rig) -> None:
    rig.add(3)
    assert rig.send(0.0, at_most=1) == [0]
    assert rig.send(0.1) == [1, 2]


def test_what_is_not_confirmed_is_sent_again_after_its_time(rig: Rig) -> None:
    rig.add(2)
    rig.send(0.0)
    assert rig.window.due_s() == RETRY_S
    assert rig.send(RETRY_S - 0.1) == []
    assert rig.send(RETRY_S) == [0, 1]


def test_entries_that_are_never_confirmed_hold_up_none_behind_them(rig: Rig) -> None:
    rig.add(SIZE)
    poison = rig.send(0.0)
    rig.add(30)
    now_s, arrived = RETRY_S, set[int]()
    for _ in range(20):
        sent = rig.send(now_s)
        sound = [number for number in sent if number not in poison]
        rig.confirm(*sound)
        arrived |= set(sound)
        now_s += 1.0
    assert arrived == set(range(SIZE, SIZE + 30))


def test_repetitions_leave_half_of_the_window_to_what_is_new(rig: Rig) -> None:
    rig.add(SIZE)
    rig.send(0.0)
    assert rig.send(RETRY_S) == list(range(REPEATS))
    rig.add(SIZE)
    assert rig.send(RETRY_S + 0.1) == list(range(SIZE, 2 * SIZE - REPEATS))


def test_every_unconfirmed_entry_has_its_turn_again(rig: Rig) -> None:
    rig.add(SIZE)
    rig.send(0.0)
    turns = [rig.send(RETRY_S * step) for step in range(1, 5)]
    first, second = list(range(REPEATS)), list(range(REPEATS, SIZE))
    assert turns == [first, second, first, second]


def test_a_lost_entry_is_sent_again_though_new_ones_keep_coming(rig: Rig) -> None:
    rig.add(1)
    assert rig.send(0.0) == [0]
    again = []
    for step in range(1, 30):
        rig.add(1)
        sent = rig.send(float(step))
        again += [step for number in sent if number == 0]
        rig.confirm(*(number for number in sent if number != 0))
    assert again == [10, 20]


def test_a_new_connection_begins_with_the_oldest(rig: Rig) -> None:
    rig.add(3)
    rig.send(0.0)
    rig.confirm(1)
    rig.window.restart()
    assert rig.send(0.1) == [0, 2]


def test_with_everything_confirmed_nothing_is_due(rig: Rig) -> None:
    rig.add(1)
    rig.send(0.0)
    rig.confirm(0)
    assert rig.window.due_s() is None
    assert rig.send(100.0) == []
