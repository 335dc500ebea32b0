"""What is past a limit leaves, oldest first, a part at a time; what is held leaves last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cloud.store import RetentionLimits, TelemetryStore
from cloud.store.database import grow
from cloud.store.sealing import ORPHAN_AGE_S, SEAL_AGE_S
from cloud.store.store import UNLIMITED
from shared.errors import StorageError
from shared.messages import GateCount
from tests.builders import SHAPE, record
from tests.store.desk import NOON_S, StoreDesk, told

DAY_S = 86_400.0
LIMITS = RetentionLimits(
    max_age_s=10 * DAY_S, held_age_s=100 * DAY_S, waiting_age_s=5 * DAY_S, max_bytes=2**40
)

Make = Callable[..., StoreDesk]


@pytest.fixture
def make(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    def made(limits: RetentionLimits = LIMITS) -> StoreDesk:
        desk = StoreDesk(url, str(tmp_path / "inputs"), limits)
        request.addfinalizer(desk.close)
        return desk

    return made


def files(desk: StoreDesk) -> list[Path]:
    return sorted(Path(desk.inputs_url).glob("*/*"))


def keep_up(store: TelemetryStore, now_s: float) -> int:
    """Has the upkeep done until nothing is left to do; returns how many turns it took."""
    turns = 1
    while store.upkeep(now_s):
        turns += 1
        assert turns < 1000
    return turns


def seal(desk: StoreDesk, now_s: float) -> None:
    """Moves all inputs into a file."""
    keep_up(desk.store, now_s + SEAL_AGE_S + 1)


@pytest.mark.parametrize("sealed", [True, False], ids=["in-files", "in-the-database"])
def test_what_is_too_old_leaves_with_its_inputs(make: Make, sealed: bool) -> None:
    desk = make()
    desk.send(record(1), record(2, with_input=False), now_s=NOON_S)
    if sealed:
        seal(desk, NOON_S)
        assert len(files(desk)) == 1
    desk.send(record(3), now_s=NOON_S + 5 * DAY_S)
    keep_up(desk.store, NOON_S + 9 * DAY_S)
    assert len(desk.traffic()) == 3
    keep_up(desk.store, NOON_S + 11 * DAY_S)
    assert desk.inputs() == [3.0]
    assert [path.read_bytes() != b"" for path in files(desk)] == [True]
    assert desk.rows("SELECT count(*) FROM packs") == [(1,)]


@pytest.mark.parametrize("sealed", [True, False], ids=["in-files", "in-the-database"])
def test_what_is_labelled_stays_longest_with_its_input(make: Make, sealed: bool) -> None:
    desk = make()
    desk.send(*map(record, range(20)), record(20, with_input=False), now_s=NOON_S)
    names = ("id-3", "id-7", "id-12", "id-20")
    desk.store.label([told(name, "one") for name in names], NOON_S)
    numbers = desk.traffic().number
    if sealed:
        seal(desk, NOON_S)
    keep_up(desk.store, NOON_S + 11 * DAY_S)
    assert desk.traffic().number.tolist() == numbers[[3, 7, 12, 20]].tolist()
    assert desk.traffic().has_input.tolist() == [True, True, True, False]
    assert desk.inputs() == [3.0, 7.0, 12.0]
    seal(desk, NOON_S + 11 * DAY_S)
    assert desk.inputs() == [3.0, 7.0, 12.0]
    assert len(files(desk)) == 1
    keep_up(desk.store, NOON_S + 101 * DAY_S)
    assert len(desk.traffic()) == 0
    assert files(desk) == []
    assert list(desk.store.labels("meter")) == []


def test_past_the_bytes_the_oldest_go_and_what_is_held_goes_last(make: Make) -> None:
    desk = make()
    for number in range(20):
        desk.send(record(number), now_s=NOON_S + number)
    desk.store.label([told("id-0", "one")], NOON_S)
    each = desk.store.stored_bytes() // 20
    desk.close()
    desk = make(RetentionLimits(1e9, 1e9, 1e9, max_bytes=6 * each))
    keep_up(desk.store, NOON_S + 100)
    assert desk.store.stored_bytes() <= 6 * each
    kept = desk.inputs()
    assert kept[0] == 0.0
    assert kept[1:] == [float(number) for number in range(20 - len(kept) + 1, 20)]
    desk.close()
    desk = make(RetentionLimits(1e9, 1e9, 1e9, max_bytes=0))
    keep_up(desk.store, NOON_S + 100)
    assert len(desk.traffic()) == 0
    assert desk.store.stored_bytes() == 0


@pytest.mark.parametrize(
    ("bound", "most", "after"),
    [
        pytest.param("PACKS_A_PART", 4, 40 - 2 * 4, id="packs"),
        pytest.param("SAMPLES_A_PART", 3, 40 - 2 * 3, id="samples"),
    ],
)
def test_a_turn_removes_a_bounded_part(
    make: Make, monkeypatch: pytest.MonkeyPatch, bound: str, most: int, after: int
) -> None:
    monkeypatch.setattr("cloud.store.retention.PARTS_A_TURN", 2)
    monkeypatch.setattr(f"cloud.store.retention.{bound}", most)
    desk = make()
    for number in range(40):
        desk.send(record(number), now_s=NOON_S)
    desk.store.upkeep(NOON_S + 11 * DAY_S)
    assert len(desk.traffic()) == after
    assert keep_up(desk.store, NOON_S + 11 * DAY_S) > 2
    assert len(desk.traffic()) == 0


def test_a_turn_removes_more_than_comes_in_while_it_works(make: Make) -> None:
    desk = make()
    for number in range(100):
        desk.send(record(number), now_s=NOON_S)
    desk.store.upkeep(NOON_S + 11 * DAY_S)
    assert len(desk.traffic()) == 0


def test_what_is_stored_is_counted_on_and_summed_once_in_a_life(make: Make) -> None:
    desk = make()
    summed = "SELECT coalesce(sum(row_bytes + input_bytes), 0) FROM packs"
    for number in range(10):
        desk.send(record(number), record(100 + number, with_input=False), now_s=NOON_S)
    desk.store.label([told("id-7", "one"), told("id-105", "two")], NOON_S)
    assert [(desk.store.stored_bytes(),)] == desk.rows(summed)
    keep_up(desk.store, NOON_S + 11 * DAY_S)
    assert len(desk.traffic()) == 2
    assert [(desk.store.stored_bytes(),)] == desk.rows(summed)
    with desk.store._database.writing() as (connection, _):
        grow(connection, 12345)  # it was counted wrong, whyever
    later = desk.open(LIMITS)
    later.upkeep(NOON_S + 11 * DAY_S)
    assert [(later.stored_bytes(),)] == desk.rows(summed)


# Inputs that are lost


SPOILT = [
    pytest.param(lambda path: path.unlink(), id="gone"),
    pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-9]), id="cut"),
    pytest.param(
        lambda path: path.write_bytes(bytes(b ^ 0x55 for b in path.read_bytes())), id="flipped"
    ),
]


def sealed_with_a_label(make: Make) -> tuple[StoreDesk, Path]:
    """Returns a store whose oldest file holds a sample that is held, and the file."""
    desk = make()
    desk.send(*map(record, range(5)), now_s=NOON_S)
    desk.store.label([told("id-3", "one")], NOON_S)
    seal(desk, NOON_S)
    (oldest,) = files(desk)
    desk.send(*map(record, range(10, 15)), now_s=NOON_S + 100)
    desk.store.label([told("id-12", "two")], NOON_S)
    seal(desk, NOON_S + 100)
    return desk, oldest


@pytest.mark.parametrize("spoil", SPOILT)
def test_an_input_that_is_lost_is_marked_as_gone_once_and_holds_up_nothing(
    make: Make, spoil: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    desk, oldest = sealed_with_a_label(make)
    spoil(oldest)
    desk.send(counts=[GateCount("press-1", "meter", "1", 5, 1)], now_s=NOON_S)
    keep_up(desk.store, NOON_S + 11 * DAY_S)
    assert desk.traffic().label.tolist() == [1, 2]
    assert desk.traffic().has_input.tolist() == [False, True]
    assert desk.inputs() == [12.0]
    assert desk.store.lost_inputs == 1
    assert desk.store.counts_after("meter", 0, 9) == []
    (said,) = [each.getMessage() for each in caplog.records if "without" in each.getMessage()]
    assert said.startswith("1 samples stay without their inputs: ")
    keep_up(desk.store, NOON_S + 12 * DAY_S)
    assert desk.store.lost_inputs == 1


@pytest.mark.parametrize("hide", ["the-files", "the-folder"])
def test_a_place_that_is_away_loses_nothing_and_holds_up_nothing_else(
    make: Make, tmp_path: Path, hide: str
) -> None:
    desk, _ = sealed_with_a_label(make)
    held = len(desk.rows("SELECT * FROM packs"))
    desk.send(*map(record, range(20, 25)), now_s=NOON_S + 200)  # in no file yet
    desk.send(counts=[GateCount("press-1", "meter", "1", 5, 1)], now_s=NOON_S)
    away = tmp_path / "away"
    Path(desk.inputs_url).rename(away)
    if hide == "the-files":
        Path(desk.inputs_url).mkdir()  # as where nothing is mounted
    with pytest.raises(StorageError, match="cannot read"):
        desk.store._retention.turn(NOON_S + 11 * DAY_S)
    assert desk.store.lost_inputs == 0
    assert len(desk.rows("SELECT * FROM packs")) == held
    assert desk.store.counts_after("meter", 0, 9) == []
    if hide == "the-files":
        Path(desk.inputs_url).rmdir()
    away.rename(desk.inputs_url)
    keep_up(desk.store, NOON_S + 11 * DAY_S)
    assert desk.inputs() == [3.0, 12.0]


def test_what_is_held_does_not_go_while_the_rest_only_waits(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.store.retention.PACKS_A_PART", 1)
    desk, _ = sealed_with_a_label(make)
    keep_up(desk.store, NOON_S + 11 * DAY_S)
    desk.send(*map(record, range(30, 35)), now_s=NOON_S + 11 * DAY_S)
    desk.store.label([told("id-31", "one")], NOON_S)
    seal(desk, NOON_S + 11 * DAY_S)
    desk.close()
    full = make(RetentionLimits(1e9, 1e9, 1e9, max_bytes=0))
    away = tmp_path / "away"
    Path(full.inputs_url).rename(away)
    with pytest.raises(StorageError, match="cannot read"):
        full.store._retention.turn(NOON_S + 12 * DAY_S)
    away.rename(full.inputs_url)
    assert full.inputs() == [3.0, 12.0, 30.0, 31.0, 32.0, 33.0, 34.0]


def test_what_stops_the_sealing_does_not_stop_the_rest(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make()
    desk.send(record(1), now_s=NOON_S)

    def full(path: Path, data: bytes) -> None:
        raise StorageError("cannot write: No space left on device")

    monkeypatch.setattr("cloud.store.files.write_durably", full)
    with pytest.raises(StorageError, match="No space"):
        desk.store.upkeep(NOON_S + 11 * DAY_S)
    assert len(desk.traffic()) == 0


def test_old_counts_names_of_messages_and_waiting_labels_leave(make: Make) -> None:
    desk = make()
    desk.send(counts=[GateCount("press-1", "meter", "1", 5, 1)], batch="a", now_s=NOON_S)
    desk.store.label([told("id-1", "one")], NOON_S)
    keep_up(desk.store, NOON_S + 4 * DAY_S)
    assert len(list(desk.store.labels("meter"))) == 1
    keep_up(desk.store, NOON_S + 6 * DAY_S)
    assert list(desk.store.labels("meter")) == []
    assert len(desk.store.counts_after("meter", 0, 9)) == 1
    keep_up(desk.store, NOON_S + 11 * DAY_S)
    assert desk.store.counts_after("meter", 0, 9) == []
    assert desk.send(batch="a", now_s=NOON_S + 11 * DAY_S).repeated == 1
    keep_up(desk.store, NOON_S + 31 * DAY_S)
    assert desk.rows("SELECT count(*) FROM batches") == [(0,)]


def test_a_sample_that_is_labelled_while_it_is_removed_stays(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make()
    desk.send(record(1), record(2), now_s=NOON_S)
    retention = desk.store._retention
    held = retention._held

    def labelled_meanwhile(pack: object) -> object:
        found = held(pack)  # type: ignore[arg-type]
        desk.store.label([told("id-2", "one")], NOON_S)
        return found

    monkeypatch.setattr(retention, "_held", labelled_meanwhile)
    desk.store.upkeep(NOON_S + 11 * DAY_S)
    monkeypatch.undo()
    keep_up(desk.store, NOON_S + 11 * DAY_S)
    assert desk.inputs() == [2.0]


# Files


def test_inputs_move_into_one_file_when_they_have_waited(make: Make) -> None:
    desk = make(UNLIMITED)
    for number in range(10):
        desk.send(record(number), now_s=NOON_S)
    keep_up(desk.store, NOON_S + 60)
    assert files(desk) == []
    assert desk.inputs() == [float(number) for number in range(10)]
    seal(desk, NOON_S)
    assert len(files(desk)) == 1
    assert desk.rows("SELECT count(*) FROM packs WHERE data IS NOT NULL") == [(0,)]
    assert desk.inputs() == [float(number) for number in range(10)]


def test_inputs_move_into_a_file_when_there_are_enough(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make(UNLIMITED)
    for number in range(4):
        desk.send(record(number), now_s=NOON_S)
    monkeypatch.setattr("cloud.store.sealing.SEAL_BYTES", 1)
    keep_up(desk.store, NOON_S)
    assert len(files(desk)) == 4
    assert desk.inputs() == [0.0, 1.0, 2.0, 3.0]


def test_a_file_that_no_row_names_goes_once_it_is_old(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make(UNLIMITED)
    desk.send(record(1), now_s=NOON_S)
    seal(desk, NOON_S)
    written_s = NOON_S + SEAL_AGE_S + 1
    desk.send(record(2), now_s=written_s)

    def killed(*arguments: object) -> None:
        raise StorageError("killed")

    monkeypatch.setattr(desk.store._database, "writing", killed)
    with pytest.raises(StorageError, match="killed"):
        desk.store.upkeep(written_s + SEAL_AGE_S + 1)
    monkeypatch.undo()
    assert len(files(desk)) == 2
    assert desk.inputs() == [1.0, 2.0]
    young = StoreDesk(desk.url, desk.inputs_url)
    young.store._orphans.turn(written_s + SEAL_AGE_S + 2)
    assert len(files(desk)) == 2
    old = StoreDesk(desk.url, desk.inputs_url)
    while old.store._orphans.turn(written_s + SEAL_AGE_S + ORPHAN_AGE_S + 2):
        pass
    assert len(files(desk)) == 1
    assert desk.inputs() == [1.0, 2.0]
    young.close()
    old.close()


def test_strange_files_in_the_folder_are_left_alone(make: Make) -> None:
    desk = make(UNLIMITED)
    desk.send(record(1), now_s=NOON_S)
    seal(desk, NOON_S)
    folder = files(desk)[0].parent
    (folder / "notes.txt").write_text("mine")
    (folder / "x-y.packs").write_text("mine too")
    (folder.parent / "readme").write_text("and mine")
    keep_up(desk.store, NOON_S + 10 * DAY_S)
    assert {path.name for path in folder.iterdir()} >= {"notes.txt", "x-y.packs"}
    assert (folder.parent / "readme").exists()


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        pytest.param(lambda path: path.unlink(), "cannot read", id="gone"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-9]), "cut off", id="cut"),
        pytest.param(
            lambda path: path.write_bytes(bytes(b ^ 0x55 for b in path.read_bytes())),
            "damaged",
            id="flipped",
        ),
    ],
)
def test_a_file_that_is_damaged_or_gone_is_named(
    make: Make, spoil: Callable[[Path], object], problem: str
) -> None:
    desk = make(UNLIMITED)
    desk.send(record(1), now_s=NOON_S)
    seal(desk, NOON_S)
    (path,) = files(desk)
    spoil(path)
    with pytest.raises(StorageError, match=problem) as raised:
        desk.inputs()
    assert path.name in str(raised.value)


def test_a_folder_that_cannot_be_written_loses_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make(UNLIMITED)
    desk.send(record(1), now_s=NOON_S)

    def full(path: Path, data: bytes) -> None:
        raise StorageError("cannot write: No space left on device")

    monkeypatch.setattr("cloud.store.files.write_durably", full)
    with pytest.raises(StorageError, match="No space"):
        seal(desk, NOON_S)
    assert desk.inputs() == [1.0]
    monkeypatch.undo()
    seal(desk, NOON_S)
    assert desk.inputs() == [1.0]


def test_a_place_that_nothing_speaks_to_is_said(tmp_path: Path) -> None:
    store = TelemetryStore(f"sqlite:///{tmp_path}/t.sqlite", "nosuch://place/x")
    with pytest.raises(StorageError, match="cannot open nosuch://place/x for inputs"):
        store.open()


def test_kinds_of_inputs_are_packed_apart_and_come_back_together(make: Make) -> None:
    desk = make(UNLIMITED)
    desk.send(record(1), record(2, pipeline="gauge"), record(3), now_s=NOON_S)
    assert desk.rows("SELECT count(*) FROM packs") == [(2,)]
    numbers = [*desk.traffic().number, *desk.traffic("gauge").number]
    found = desk.store.inputs(np.array(numbers), SHAPE)
    assert found[:, 0].tolist() == [1.0, 3.0, 2.0]
