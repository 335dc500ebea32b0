"""The spool keeps what it took until it is told to let go, within its limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import StorageError
from shared.spool import Spool, SpoolLimits
from tests.fakes import wait_until

ROOMY = SpoolLimits(max_bytes=2**20, max_age_s=3600.0)


@contextmanager
def spool_at(path: Path, limits: SpoolLimits = ROOMY) -> Iterator[Spool]:
    spool = Spool(path, limits)
    spool.open()
    try:
        yield spool
    finally:
        spool.close()


def keys(spool: Spool) -> list[str]:
    return [key for key, _ in spool.oldest(1000)]


def test_entries_come_oldest_first_and_stay_until_removed(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite") as spool:
        for key in "cab":
            spool.add(key, key.encode() * 3)
        assert spool.oldest(2) == [("c", b"ccc"), ("a", b"aaa")]
        assert spool.oldest(2) == [("c", b"ccc"), ("a", b"aaa")]
        spool.remove(("a", "never-seen"))
        assert keys(spool) == ["c", "b"]
        assert spool.payload_bytes == 6


def test_entries_are_read_on_from_a_place_whether_its_entry_is_there_or_not(
    tmp_path: Path,
) -> None:
    with spool_at(tmp_path / "s.sqlite") as spool:
        spool.add_all([(key, key.encode()) for key in "abcd"])
        first, second = spool.after(0, 2)
        assert (first.key, second.key, second.payload) == ("a", "b", b"b")
        spool.remove(("b", "c"))
        assert [entry.key for entry in spool.after(second.number, 10)] == ["d"]
        assert spool.after(second.number + 2, 10) == []
        spool.remove(("a", "d"))
        spool.add("e", b"e")
        assert [entry.key for entry in spool.after(second.number + 2, 10)] == ["e"]


def test_entries_written_together_are_written_all_or_none(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite") as spool:
        assert spool.add_all([("a", b"12"), ("b", b"3")]) == 0
        with pytest.raises(StorageError):
            spool.add_all([("c", b"4"), ("a", b"again")])
        assert spool.oldest(10) == [("a", b"12"), ("b", b"3")]
        assert spool.payload_bytes == 3


def test_past_its_bytes_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite", SpoolLimits(10, 3600.0)) as spool:
        assert spool.add("a", b"1234") == 0
        assert spool.add("b", b"1234") == 0
        assert spool.add("c", b"12345678") == 2
        assert keys(spool) == ["c"]
        assert spool.payload_bytes == 8


def test_an_entry_larger_than_the_whole_spool_does_not_stay(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite", SpoolLimits(4, 3600.0)) as spool:
        assert spool.add("a", b"12345") == 1
        assert keys(spool) == []
        assert spool.payload_bytes == 0


def test_what_is_too_old_goes_with_the_next_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = time.time()
    with spool_at(tmp_path / "s.sqlite", SpoolLimits(2**20, 60.0)) as spool:
        spool.add("old", b"1234")
        monkeypatch.setattr(time, "time", lambda: start + 30.0)
        assert spool.add("younger", b"12") == 0
        monkeypatch.setattr(time, "time", lambda: start + 70.0)
        assert spool.add("new", b"1") == 1
        assert keys(spool) == ["younger", "new"]
        assert spool.payload_bytes == 3


def test_what_was_added_survives_closing_and_opening(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite") as spool:
        spool.add("a", b"12")
        spool.add("b", b"345")
    with spool_at(tmp_path / "s.sqlite") as again:
        assert again.oldest(10) == [("a", b"12"), ("b", b"345")]
        assert again.payload_bytes == 5


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(b"this is no database, and longer than its header " * 50, id="text"),
        pytest.param(b"SQLite format 3\0" + b"\xff" * 5000, id="broken-header"),
    ],
)
def test_a_corrupt_file_is_put_aside_and_a_new_spool_begun(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(damage)
    with spool_at(path) as spool:
        assert keys(spool) == []
        spool.add("a", b"1")
        assert keys(spool) == ["a"]
    (aside,) = tmp_path.glob("s.corrupt-*")
    assert aside.read_bytes() == damage


def test_a_key_that_is_in_it_already_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite") as spool:
        spool.add("a", b"12")
        with pytest.raises(StorageError, match="cannot write"):
            spool.add("a", b"345")
        assert spool.oldest(10) == [("a", b"12")]
        assert spool.payload_bytes == 2


def test_a_folder_that_cannot_be_made_is_an_error_of_storage(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot open"):
        Spool(tmp_path / "taken" / "s.sqlite", ROOMY).open()


def test_a_path_that_is_a_folder_is_an_error_of_storage_and_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "s.sqlite"
    folder.mkdir()
    (folder / "precious").write_bytes(b"1")
    with pytest.raises(StorageError):
        Spool(folder, ROOMY).open()
    assert (folder / "precious").exists()


def test_a_closed_spool_says_so(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s.sqlite", ROOMY)
    with pytest.raises(StorageError, match="is not open"):
        spool.add("a", b"1")


WRITER = """
import sys
from pathlib import Path
from shared.spool import Spool, SpoolLimits

spool = Spool(Path(sys.argv[1]), SpoolLimits(2**30, 3600.0))
spool.open()
number = 0
while True:
    spool.add(str(number), str(number).encode() * 1000)
    print(number, flush=True)
    number += 1
"""


def test_kill_9_in_mid_write_loses_nothing_that_was_taken(tmp_path: Path) -> None:
    path, said = tmp_path / "s.sqlite", tmp_path / "said.txt"
    with said.open("wb") as output:
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=output)
    try:
        wait_until(lambda: said.read_bytes().count(b"\n") >= 20, "the child writes")
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    taken = [line for line in said.read_text().split("\n")[:-1] if line]
    with spool_at(path, SpoolLimits(2**30, 3600.0)) as spool:
        entries = spool.oldest(100_000)
        # The child may have been killed between the commit and its word of it.
        assert [key for key, _ in entries[: len(taken)]] == taken
        assert len(entries) <= len(taken) + 1
        assert all(payload == key.encode() * 1000 for key, payload in entries)
    assert not list(tmp_path.glob("*.corrupt-*"))


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove", "reopen"]), st.integers(0, 40)), max_size=25
    )
)
def test_it_behaves_like_a_bounded_list(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("spool") / "s.sqlite"
    limits = SpoolLimits(100, 3600.0)
    kept: list[tuple[str, bytes]] = []
    spool = Spool(path, limits)
    spool.open()
    for number, (step, size) in enumerate(steps):
        if step == "add":
            kept.append((str(number), b"x" * size))
            before = len(kept)
            while sum(len(payload) for _, payload in kept) > 100:
                del kept[0]
            assert spool.add(str(number), b"x" * size) == before - len(kept)
        elif step == "remove" and kept:
            key, _ = kept.pop(size % len(kept))
            spool.remove((key,))
        else:
            spool.close()
            spool.open()
        assert spool.oldest(100) == kept
        assert spool.payload_bytes == sum(len(payload) for _, payload in kept)
    spool.close()


def test_the_entries_of_a_spool_that_is_no_more_stand_behind_the_own_ones(tmp_path: Path) -> None:
    with spool_at(tmp_path / "other.sqlite") as other:
        other.add_all([("x", b"xx"), ("y", b"y")])
    with spool_at(tmp_path / "s.sqlite") as spool:
        spool.add_all([("b", b"b"), ("a", b"a")])
        place = spool.after(0, 2)[-1].number
        assert spool.adopt(tmp_path / "other.sqlite") == 2
        assert spool.oldest(9) == [("b", b"b"), ("a", b"a"), ("x", b"xx"), ("y", b"y")]
        assert [entry.key for entry in spool.after(place, 9)] == ["x", "y"]
        assert spool.payload_bytes == 5
        spool.add("c", b"c")
        assert keys(spool)[-1] == "c"
    assert [path.name for path in tmp_path.iterdir()] == ["s.sqlite"]


def test_entries_that_a_crash_left_in_both_spools_are_taken_over_once(tmp_path: Path) -> None:
    with spool_at(tmp_path / "other.sqlite") as other:
        other.add_all([("x", b"x"), ("y", b"y")])
    with spool_at(tmp_path / "s.sqlite") as spool:
        spool.add("x", b"x")
        assert spool.adopt(tmp_path / "other.sqlite") == 1
        assert keys(spool) == ["x", "y"]


def test_what_is_taken_over_keeps_its_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = SpoolLimits(max_bytes=2**20, max_age_s=10.0)
    long_ago = time.time() - 60.0
    with monkeypatch.context() as patch, spool_at(tmp_path / "other.sqlite") as other:
        patch.setattr(time, "time", lambda: long_ago)
        other.add("old", b"old")
    with spool_at(tmp_path / "s.sqlite", limits) as spool:
        spool.adopt(tmp_path / "other.sqlite")
        assert spool.add("new", b"new") == 1
        assert keys(spool) == ["new"]


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100], ids=["empty", "other"])
def test_a_file_that_is_no_spool_is_left_where_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.sqlite"
    path.write_bytes(content)
    with spool_at(tmp_path / "s.sqlite") as spool:
        spool.add("a", b"a")
        with pytest.raises(StorageError, match="cannot take over"):
            spool.adopt(path)
        spool.add("b", b"b")
        assert keys(spool) == ["a", "b"]
    assert path.read_bytes() == content
