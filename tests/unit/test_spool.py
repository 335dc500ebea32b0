"""The spool keeps what it took until it is told to let go, within its limits."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
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


def oldest(spool: Spool, count: int = 1000) -> list[tuple[str, bytes]]:
    return [(entry.key, entry.payload) for entry in spool.after(0, count)]


def keys(spool: Spool) -> list[str]:
    return [key for key, _ in oldest(spool)]


def test_entries_come_oldest_first_and_stay_until_removed(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite") as spool:
        for key in "cab":
            spool.add_all([(key, key.encode() * 3)])

        assert oldest(spool, 2) == [("c", b"ccc"), ("a", b"aaa")]
        assert oldest(spool, 2) == [("c", b"ccc"), ("a", b"aaa")]
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
        spool.add_all([("e", b"e")])

        assert [entry.key for entry in spool.after(second.number + 2, 10)] == ["e"]


def test_entries_written_together_are_written_all_or_none(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite") as spool:
        assert spool.add_all([("a", b"12"), ("b", b"3")]) == 0
        with pytest.raises(StorageError):
            spool.add_all([("c", b"4"), ("a", b"again")])
        assert oldest(spool, 10) == [("a", b"12"), ("b", b"3")]
        assert spool.payload_bytes == 3


def test_past_its_bytes_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite", SpoolLimits(10, 3600.0)) as spool:
        assert spool.add_all([("a", b"1234")]) == 0
        assert spool.add_all([("b", b"1234")]) == 0
        assert spool.add_all([("c", b"12345678")]) == 2
        assert keys(spool) == ["c"]
        assert spool.payload_bytes == 8


def test_an_entry_larger_than_the_whole_spool_does_not_stay(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite", SpoolLimits(4, 3600.0)) as spool:
        assert spool.add_all([("a", b"12345")]) == 1
        assert keys(spool) == []
        assert spool.payload_bytes == 0


def test_what_is_too_old_goes_with_the_next_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = time.time()
    with spool_at(tmp_path / "s.sqlite", SpoolLimits(2**20, 60.0)) as spool:
        spool.add_all([("old", b"1234")])

        monkeypatch.setattr(time, "time", lambda: start + 30.0)
        assert spool.add_all([("younger", b"12")]) == 0
        monkeypatch.setattr(time, "time", lambda: start + 70.0)
        assert spool.add_all([("new", b"1")]) == 1
        assert keys(spool) == ["younger", "new"]
        assert spool.payload_bytes == 3


def test_what_was_added_survives_closing_and_opening(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite") as spool:
        spool.add_all([("a", b"12")])

        spool.add_all([("b", b"345")])

    with spool_at(tmp_path / "s.sqlite") as again:
        assert oldest(again, 10) == [("a", b"12"), ("b", b"345")]
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
        spool.add_all([("a", b"1")])

        assert keys(spool) == ["a"]
    aside = tmp_path / "s.corrupt"
    assert aside.read_bytes() == damage


def test_a_key_that_is_in_it_already_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite") as spool:
        spool.add_all([("a", b"12")])

        with pytest.raises(StorageError, match="cannot write"):
            spool.add_all([("a", b"345")])

        assert oldest(spool, 10) == [("a", b"12")]
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


def test_it_begins_its_file_with_its_first_entry_and_opens_it_again_when_needed(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path / "state" / "s.sqlite", ROOMY)
    assert not spool.exists
    assert spool.payload_bytes == 0
    spool.close()
    assert not (tmp_path / "state").exists()
    spool.add_all([("a", b"1")])
    assert spool.exists
    spool.close()
    assert keys(spool) == ["a"]
    spool.close()


@pytest.mark.parametrize("module", ["tier1.__main__", "shared.cascade.backlog"])
def test_a_node_that_keeps_nothing_loads_no_database(module: str) -> None:
    program = f"import sys, {module}; print('sqlite3' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert told.stdout == "False\n"


def damage(path: Path) -> None:
    """Overwrites all but the first page of a database, as a dying card does."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


Use = Callable[[Spool], object]
USES: dict[str, Use] = {
    "add": lambda spool: spool.add_all([("new", b"1")]),
    "replace": lambda spool: spool.replace("7", [("new", b"1")]),
    "remove": lambda spool: spool.remove(("7",)),
    "after": lambda spool: spool.after(0, 100),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_file_that_is_damaged_under_it_is_put_aside_and_a_new_one_begun(
    tmp_path: Path, use: Use
) -> None:
    path = tmp_path / "s.sqlite"
    with spool_at(path) as spool:
        spool.add_all([(str(number), b"x" * 5000) for number in range(50)])
        number = spool.after(0, 100)[-1].number
        # It is open when that happens, and has next to nothing of it in memory.
        spool._database_file._opened().execute("PRAGMA cache_size=1")
        damage(path)
        with pytest.raises(StorageError):
            use(spool)
        assert spool.payload_bytes == 50 * 5000
        assert oldest(spool) == []
        assert spool.payload_bytes == 0
        spool.add_all([("after", b"12")])
        assert spool.payload_bytes == 2
        assert spool.after(number, 9)[0].key == "after"
    assert (tmp_path / "s.corrupt").exists()


def test_of_damaged_files_the_last_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    for content in (b"one" * 2000, b"two" * 2000):
        path.write_bytes(content)
        with spool_at(path):
            pass
    assert sorted(each.name for each in tmp_path.iterdir()) == ["s.corrupt", "s.sqlite"]
    assert (tmp_path / "s.corrupt").read_bytes() == b"two" * 2000


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_disk_that_fails_is_an_error_of_storage_and_is_used_again_when_it_is_back(
    tmp_path: Path, use: Use
) -> None:
    folder = tmp_path / "disk"
    with spool_at(folder / "s.sqlite") as spool:
        spool.add_all([("7", b"12")])
        spool.close()
        folder.rename(tmp_path / "away")
        folder.write_bytes(b"no folder")
        with pytest.raises(StorageError, match="cannot open"):
            use(spool)
        assert spool.payload_bytes == 2
        folder.unlink()
        (tmp_path / "away").rename(folder)
        use(spool)


def test_a_full_disk_changes_nothing_and_what_is_counted_stays_true(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite") as spool:
        spool.add_all([("a", b"12")])
        pages = spool._database_file._opened().execute("PRAGMA page_count").fetchone()[0]
        spool._database_file._opened().execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StorageError, match="full"):
            spool.add_all([("b", b"x" * 100_000)])
        assert spool.payload_bytes == 2
        assert keys(spool) == ["a"]


def test_values_of_another_type_are_bytes_all_the_same(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite") as spool:
        spool.add_all([(each, b"12") for each in "abcd"])
        with spool._database_file.use("damage") as database:
            for key, value in (("a", 2**62), ("b", None), ("c", "text")):
                database.execute("UPDATE entries SET payload = ? WHERE key = ?", (value, key))
            database.execute("UPDATE entries SET key = CAST(x'FFFE' AS TEXT) WHERE key = 'd'")
        assert [payload for _, payload in oldest(spool)] == [
            str(2**62).encode(), b"", b"text", b"12",
        ]  # fmt: skip
        spool.remove(["a", "b", "c"])


def test_an_entry_is_replaced_by_others_of_its_age_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = time.time()
    with spool_at(tmp_path / "s.sqlite", SpoolLimits(2**20, 60.0)) as spool:
        spool.add_all([("old", b"1234")])
        monkeypatch.setattr(time, "time", lambda: start + 50.0)
        spool.add_all([("b", b"b")])
        spool.replace("old", [("c", b"12"), ("d", b"34")])
        assert oldest(spool) == [("b", b"b"), ("c", b"12"), ("d", b"34")]
        spool.replace("gone", [("e", b"5")])
        assert keys(spool) == ["b", "c", "d"]
        assert spool.payload_bytes == 5
        monkeypatch.setattr(time, "time", lambda: start + 70.0)
        assert spool.add_all([("f", b"f")]) == 2
        assert oldest(spool) == [("b", b"b"), ("f", b"f")]
        assert spool.payload_bytes == 2


def test_neither_writing_nor_removing_looks_at_every_entry(tmp_path: Path) -> None:
    with spool_at(tmp_path / "s.sqlite") as spool:
        seen: list[str] = []
        database = spool._database_file._opened()
        database.set_trace_callback(seen.append)
        spool.add_all([("a", b"1")])
        spool.remove(["a"])
        database.set_trace_callback(None)
        statements = [each for each in seen if each.startswith(("DELETE", "SELECT", "INSERT"))]
        assert len(statements) == 3
        for statement in statements:
            plan = database.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            assert not [step for *_, step in plan if step.startswith("SCAN")], plan


def test_a_file_of_an_earlier_version_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE entries "
            "(number INTEGER PRIMARY KEY, key TEXT UNIQUE, payload BLOB, at REAL)"
        )
        database.execute("INSERT INTO entries VALUES (4, 'a', x'31', ?)", (time.time(),))
    with spool_at(path) as spool:
        assert oldest(spool) == [("a", b"1")]
        indexes = spool._database_file._opened().execute("PRAGMA index_list(entries)").fetchall()
        assert "entries_by_age" in [index[1] for index in indexes]


WRITER = """
import sys
from pathlib import Path
from shared.spool import Spool, SpoolLimits

spool = Spool(Path(sys.argv[1]), SpoolLimits(2**30, 3600.0))
spool.open()
number = 0
while True:
    spool.add_all([(str(number), str(number).encode() * 1000)])

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
        entries = oldest(spool, 100_000)
        # The child may have been killed between the commit and its word of it.
        assert [key for key, _ in entries[: len(taken)]] == taken
        assert len(entries) <= len(taken) + 1
        assert all(payload == key.encode() * 1000 for key, payload in entries)
    assert not list(tmp_path.glob("*.corrupt"))


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
            assert spool.add_all([(str(number), b"x" * size)]) == before - len(kept)
        elif step == "remove" and kept:
            key, _ = kept.pop(size % len(kept))
            spool.remove((key,))
        else:
            spool.close()
            spool.open()
        assert oldest(spool, 100) == kept
        assert spool.payload_bytes == sum(len(payload) for _, payload in kept)
    spool.close()


def test_the_entries_of_a_spool_that_is_no_more_stand_behind_the_own_ones(tmp_path: Path) -> None:
    with spool_at(tmp_path / "other.sqlite") as other:
        other.add_all([("x", b"xx"), ("y", b"y")])
    with spool_at(tmp_path / "s.sqlite") as spool:
        spool.add_all([("b", b"b"), ("a", b"a")])
        place = spool.after(0, 2)[-1].number
        assert spool.adopt(tmp_path / "other.sqlite") == 2
        assert oldest(spool, 9) == [("b", b"b"), ("a", b"a"), ("x", b"xx"), ("y", b"y")]
        assert [entry.key for entry in spool.after(place, 9)] == ["x", "y"]
        assert spool.payload_bytes == 5
        spool.add_all([("c", b"c")])

        assert keys(spool)[-1] == "c"
    assert [path.name for path in tmp_path.iterdir()] == ["s.sqlite"]


def test_entries_that_a_crash_left_in_both_spools_are_taken_over_once(tmp_path: Path) -> None:
    with spool_at(tmp_path / "other.sqlite") as other:
        other.add_all([("x", b"x"), ("y", b"y")])
    with spool_at(tmp_path / "s.sqlite") as spool:
        spool.add_all([("x", b"x")])

        assert spool.adopt(tmp_path / "other.sqlite") == 1
        assert keys(spool) == ["x", "y"]


def test_what_is_taken_over_keeps_its_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = SpoolLimits(max_bytes=2**20, max_age_s=10.0)
    long_ago = time.time() - 60.0
    with monkeypatch.context() as patch, spool_at(tmp_path / "other.sqlite") as other:
        patch.setattr(time, "time", lambda: long_ago)
        other.add_all([("old", b"old")])

    with spool_at(tmp_path / "s.sqlite", limits) as spool:
        spool.adopt(tmp_path / "other.sqlite")
        assert spool.add_all([("new", b"new")]) == 1
        assert keys(spool) == ["new"]


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100], ids=["empty", "other"])
def test_a_file_that_is_no_spool_is_left_where_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.sqlite"
    path.write_bytes(content)
    with spool_at(tmp_path / "s.sqlite") as spool:
        spool.add_all([("a", b"a")])

        with pytest.raises(StorageError, match="cannot take over"):
            spool.adopt(path)
        spool.add_all([("b", b"b")])

        assert keys(spool) == ["a", "b"]
    assert path.read_bytes() == content
