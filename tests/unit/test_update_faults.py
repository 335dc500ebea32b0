"""A broker, a disk or a record that fails costs an update, never what serves."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.config import ModelConfig
from shared.messages import to_json
from shared.releases.artefact import chunks_in_common
from shared.releases.blobs import chunked
from shared.releases.health import Health
from shared.releases.machine import AFTER_THE_SWAP, UNDER_WAY, State
from shared.releases.manifest import Manifest, sign_manifest
from shared.releases.reconciliation import RECONCILE_S
from shared.releases.record import ChannelFile, ChannelRecord, Quarantine
from shared.releases.rollout import Rollout
from shared.serving import load_local
from tests.builders import CHANNEL, CHUNK_BYTES, LABELS, file_of
from tests.fakes import FakeBroker, wait_until
from tests.unit.conftest import StationMaker
from tests.update_station import DEADLINE_S, PROBATION_S, TOPICS, Station, model_of, release

ASK_AGAIN_S = 60.0
UPDATES = TOPICS.updates("tier1-a", CHANNEL)


def chunk_topics(described: Manifest) -> list[str]:
    """Returns where the chunks of a release's file are retained."""
    file = file_of(described)
    return [TOPICS.blob(file.sha256, index) for index in range(len(file.chunks))]


# Broker


def test_a_manifest_that_comes_before_its_files_waits_for_them(on_1: Station) -> None:
    station = on_1
    station.publish(release(2), model_of(2), chunks=0)
    station.run_to(State.FETCHING, 2)
    station.settle()
    assert station.state == (State.FETCHING, 2)
    assert station.answers_rightly
    station.publish(release(2), model_of(2))
    station.now_s += ASK_AGAIN_S
    station.commit(2)
    assert station.version == "2"


def test_chunks_of_another_version_are_refused_and_the_right_ones_taken(
    on_1: Station, caplog: pytest.LogCaptureFixture
) -> None:
    station, file = on_1, file_of(release(2))
    right, other = (chunked(model_of(number), CHUNK_BYTES) for number in (2, 3))
    for topic, data in zip(chunk_topics(release(2)), other, strict=True):
        station.hub.publish(topic, data, retain=True)
    here = chunks_in_common(file, [file_of(release(1))])  # copied, and never asked for
    wrong = [index for index, data in enumerate(right) if data != other[index]]
    refused = [index for index in wrong if index not in here]
    assert refused
    station.publish(release(2), model_of(2), chunks=0)
    station.run_to(State.FETCHING, 2)
    station.settle()
    station.turn()
    assert station.state == (State.FETCHING, 2)
    assert station.drops("bad_chunk") == len(refused)
    assert [each for each in caplog.messages if each.startswith("chunk ")] == [
        f"chunk {index} of {file.sha256} has other bytes than were signed" for index in refused
    ]
    assert (station.version, station.answers_rightly) == ("1", True)
    assert station.blobs == {file_of(release(1)).sha256}
    station.publish(release(2), model_of(2))
    station.now_s += ASK_AGAIN_S
    station.commit(2)
    assert (station.version, station.answers_rightly) == ("2", True)
    assert station.drops("bad_chunk") == len(refused)


def test_chunks_that_nobody_asked_for_change_nothing(on_1: Station) -> None:
    station = on_1
    before = (station.record, station.blobs)
    for index, part in enumerate(chunked(model_of(2), CHUNK_BYTES)):
        station.updater.on_chunk(file_of(release(2)).sha256, index, part, station.now_s)
    station.settle()
    assert (station.record, station.blobs) == before


def test_files_that_the_broker_loses_in_mid_fetch_are_waited_for_and_taken_when_they_are_back(
    on_1: Station,
) -> None:
    station = on_1
    station.publish(release(2), model_of(2), chunks=1)
    station.run_to(State.FETCHING, 2)
    for topic in chunk_topics(release(2)):
        station.hub.publish(topic, b"", retain=True)
    station.settle()
    station.turn()
    assert station.state == (State.FETCHING, 2)
    station.now_s += DEADLINE_S
    station.run_to(State.TIMED_OUT, 2)
    assert station.reports[-1].reason == "not complete after 100 s"
    assert (station.version, station.answers_rightly) == ("1", True)
    station.publish(release(2), model_of(2))
    station.now_s += RECONCILE_S
    station.commit(2)
    assert station.answers_rightly


def test_a_release_that_expires_while_it_is_fetched_times_out(on_1: Station) -> None:
    station = on_1
    expires = station.utc_s + 50.0
    station.publish(release(2, expires=expires), model_of(2), chunks=0)
    station.run_to(State.FETCHING, 2)
    station.utc_s = expires
    station.turn()
    assert station.state == (State.TIMED_OUT, 2)
    assert station.reports[-1].reason == "it expired while it was fetched"
    assert (station.version, station.answers_rightly) == ("1", True)


def older(seq: int, than: int) -> str:
    """Returns what is said of a manifest that has been overtaken."""
    return (
        f"{CHANNEL}: release refused: seq {seq} of epoch 1 is older than seq {than} of epoch 1, "
        "which was accepted before"
    )


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each for each in caplog.messages if "release refused" in each]


def test_a_broker_that_was_restored_from_an_old_backup_turns_nothing_back(
    make_on_1: StationMaker, caplog: pytest.LogCaptureFixture
) -> None:
    station = make_on_1()
    station.start()
    station.publish(release(2), model_of(2))
    station.commit(2)
    backup = dict(station.hub.retained)
    station.publish(release(3), model_of(3))
    station.commit(3)
    record = station.record
    station.link.disconnect()
    station.hub.retained.clear()
    station.hub.retained.update(backup)
    assert b'"seq":2' in station.hub.retained[UPDATES].replace(b" ", b"")
    station.link.connect()
    station.updater.on_connected(station.now_s)
    station.settle()
    assert station.record == record
    assert (station.version, station.answers_rightly) == ("3", True)
    # The link subscribes again, and the node asks what is retained.
    assert station.drops("release_refused") == 2
    assert refusals(caplog) == [older(2, than=3)]
    assert station.hub.retained[UPDATES] == to_json(station.reports[-1])
    assert station.state == (State.COMMITTED, 3)


@pytest.mark.parametrize("state", UNDER_WAY)
def test_an_emptied_retained_manifest_ends_nothing(on_1: Station, state: State) -> None:
    station = on_1
    station.publish(release(2), model_of(2))
    station.run_to(state, 2)
    station.hub.publish(TOPICS.releases(CHANNEL), b"", retain=True)
    station.commit(2)
    assert station.answers_rightly
    assert station.drops("release_refused") == 0


# What was given up


def test_a_greater_retry_epoch_lifts_a_quarantine_and_a_smaller_one_does_not(
    on_1: Station,
) -> None:
    station = on_1
    station.publish(release(2, retry_epoch=4), model_of(2))
    station.run_to(State.PROBATION, 2)
    station.health = Health(batches=10, broken_batches=10)
    station.run_to(State.ROLLED_BACK, 2)
    for seq, retry_epoch in ((3, 0), (4, 4)):
        station.publish(release(2, seq=seq, retry_epoch=retry_epoch), model_of(2))
        station.settle()
        assert station.state == (State.REJECTED, seq)
        assert "Fix: raise retry_epoch" in station.reports[-1].reason
        assert station.version == "1"
    station.publish(release(2, seq=5, retry_epoch=5), model_of(2))
    station.commit(5)
    assert (station.version, station.answers_rightly) == ("2", True)


# The record


def torn(station: Station, data: bytes) -> Station:
    """Puts other bytes in the place of the record."""
    record_path(station).write_bytes(data)
    return station


def record_path(station: Station) -> Path:
    return station.folder / "channels" / f"{CHANNEL}.record"


def test_a_record_that_is_cut_or_turned_anywhere_is_never_taken_for_one(
    committed_folder: Path, tmp_path: Path
) -> None:
    whole = (committed_folder / "channels" / f"{CHANNEL}.record").read_bytes()
    path = tmp_path / "channels" / f"{CHANNEL}.record"
    path.parent.mkdir()
    file = ChannelFile.of(tmp_path, CHANNEL)
    sound = ChannelFile.of(committed_folder, CHANNEL).read()
    damaged = [whole[:length] for length in range(len(whole))]
    damaged += [
        whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(len(whole))
    ]
    for data in damaged:
        path.write_bytes(data)
        assert file.peek() is None
    path.write_bytes(whole)
    assert file.peek() == sound


@pytest.mark.parametrize("length", [0, 1, 64, 65, 200, -1])
def test_a_torn_record_is_put_aside_and_said_and_the_node_takes_the_release_anew(
    make_on_1: StationMaker, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    station = make_on_1()
    data = record_path(station).read_bytes()[:length]
    torn(station, data)
    station.start()
    assert station.model is None
    assert "meter-tier1.record cannot be read" in caplog.text
    assert record_path(station).with_suffix(".broken").read_bytes() == data
    station.publish(release(1), model_of(1), chunks=0)
    station.commit(1)
    assert station.answers_rightly


def test_a_torn_record_leaves_the_configured_model_to_serve(
    make_on_1: StationMaker, tmp_path: Path
) -> None:
    station = torn(make_on_1(), b"torn")
    path = tmp_path / "local.onnx"
    path.write_bytes(model_of(7))
    local = ModelConfig(path=path, version="7", labels=LABELS, scores="logits")
    station.updater.start()
    assert station.updater.serving is None
    station.updater.begin_with(load_local("meter", local, station.pipeline))
    station.turn()
    assert (station.version, station.answers_rightly) == ("7", True)


# A file that serves, or would have to


def blob(station: Station, number: int) -> Path:
    return station.folder / "models" / CHANNEL / "blobs" / file_of(release(number)).sha256


def committed_2(make_on_1: StationMaker) -> Station:
    """Returns a station on which release 2 has followed release 1."""
    station = make_on_1()
    station.start()
    station.publish(release(2), model_of(2))
    station.commit(2)
    return station


def test_a_model_that_fails_its_probation_gives_way_though_the_disk_has_lost_the_one_before(
    on_1: Station,
) -> None:
    station = on_1
    station.publish(release(2), model_of(2))
    station.run_to(State.PROBATION, 2)
    blob(station, 1).unlink()
    station.health = Health(batches=10, broken_batches=10)
    station.run_to(State.ROLLED_BACK, 2)
    assert (station.version, station.answers_rightly) == ("1", True)


@pytest.mark.parametrize("state", AFTER_THE_SWAP)
def test_where_the_target_of_a_rollback_is_gone_the_one_before_serves_until_it_is_back(
    make_on_1: StationMaker, state: State
) -> None:
    station = committed_2(make_on_1)
    station.publish(release(3), model_of(3))
    station.run_to(state, 3)
    blob(station, 2).unlink()
    again = make_on_1()
    again.start()
    assert (again.version, again.answers_rightly) == ("1", True)
    again.commit(2)
    assert (again.version, again.answers_rightly) == ("2", True)
    assert again.record.seq == 3
    assert [each.sha256 for each in again.record.standing] == [
        file_of(release(number)).sha256 for number in (2, 1)
    ]
    again.settle()
    assert again.blobs == {file_of(release(number)).sha256 for number in (1, 2)}


def test_where_every_target_is_gone_the_node_starts_and_fetches_what_it_had(
    make_on_1: StationMaker, caplog: pytest.LogCaptureFixture
) -> None:
    station = committed_2(make_on_1)
    for number in (1, 2):
        blob(station, number).unlink()
    again = make_on_1()
    again.start()
    assert again.model is None
    assert caplog.text.count("a committed release cannot serve") == 2
    again.commit(2)
    assert again.answers_rightly


def test_fetching_a_damaged_file_anew_opens_no_way_for_older_manifests(
    make_on_1: StationMaker, caplog: pytest.LogCaptureFixture
) -> None:
    station = make_on_1()
    station.start()
    halted = release(3, seq=5, state="halted")
    station.publish(halted, model_of(3))
    station.settle()
    assert station.record.seq == 5
    blob(station, 1).write_bytes(b"damaged")
    again = make_on_1()
    again.start()
    again.hub.publish(TOPICS.releases(CHANNEL), sign_manifest(release(3), [again.key]), retain=True)
    again.publish(release(1), model_of(1))
    again.commit(1)
    assert again.record.seq == 5
    again.publish(release(4), model_of(4))
    again.settle()
    assert again.version == "1"
    # That of the damaged file comes once more when it has been fetched.
    assert again.drops("release_refused") == 4
    assert refusals(caplog) == [older(seq, than=5) for seq in (3, 1, 4)]


# Real disks


def mount(*arguments: str) -> bool:
    command = ["/bin/mount", *arguments]
    return Path(command[0]).exists() and (
        subprocess.run(command, check=False, capture_output=True).returncode == 0
    )


@pytest.fixture
def disk(tmp_path: Path, committed_folder: Path) -> Iterator[Path]:
    """A disk of its own, of half a MiB, with the folder of a node that runs release 1."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)):
        pytest.skip("this user may not mount a disk")
    shutil.copytree(committed_folder, folder, dirs_exist_ok=True)
    yield folder
    subprocess.run(["/bin/umount", "-l", str(folder)], check=True)


@pytest.fixture
def station(disk: Path, release_key: Ed25519PrivateKey) -> Iterator[Station]:
    """A station on that disk, started."""
    made = Station(disk, release_key, FakeBroker())
    made.start()
    yield made
    made.updater.close()


def fill(disk: Path) -> None:
    """Leaves no room on a disk."""
    with (disk / "others").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.strerror == "No space left on device"


def make_room(disk: Path) -> None:
    (disk / "others").unlink()


def run_to_its_end(station: Station) -> None:
    """Takes turns until no update is under way."""

    def holds() -> bool:
        station.turn()
        station.now_s += 0.01
        return not station.updater.busy and station.state != (State.FETCHING, 2)

    wait_until(holds, "the update ends")


FAILING = [each for each in UNDER_WAY if each is not State.PROBATION]
"""States that the next turns leave; a probation goes on as long as nothing speaks against it."""


@pytest.mark.parametrize("state", FAILING)
def test_a_disk_that_is_full_from_a_state_on_costs_the_update_until_there_is_room(
    station: Station, disk: Path, state: State
) -> None:
    station.publish(release(2), model_of(2))
    station.run_to(state, 2)
    fill(disk)
    run_to_its_end(station)
    end = State.ROLLED_BACK if state in AFTER_THE_SWAP else State.FAILED_NO_STATE_CHANGE
    assert station.state == (end, 2)
    assert "No space left on device" in station.reports[-1].reason
    assert (station.version, station.answers_rightly) == ("1", True)
    assert station.active_envelope == sign_manifest(release(1), [station.key])
    assert station.record.quarantined == ()
    make_room(disk)
    station.now_s += RECONCILE_S
    station.commit(2)
    assert (station.version, station.answers_rightly) == ("2", True)


class FullAt:
    """A disk that is full from right before the write of a state on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, disk: Path, state: State) -> None:
        self.filled = False
        write = ChannelFile.write

        def filling(file: ChannelFile, record: ChannelRecord) -> None:
            if record.state is state and not self.filled:
                self.filled = True
                fill(disk)
            write(file, record)

        monkeypatch.setattr(ChannelFile, "write", filling)


def test_a_disk_that_is_full_at_the_swap_keeps_the_old_model(
    station: Station, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FullAt(monkeypatch, disk, State.ACTIVATING)
    station.publish(release(2), model_of(2))
    station.run_to(State.FAILED_NO_STATE_CHANGE, 2)
    assert "No space left on device" in station.reports[-1].reason
    assert (station.version, station.answers_rightly) == ("1", True)
    assert "ACTIVATING" not in {each.state for each in station.reports if each.seq == 2}
    make_room(disk)
    station.now_s += RECONCILE_S
    station.commit(2)


def test_a_disk_that_is_full_at_the_commit_delays_it_and_its_report(
    station: Station, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = FullAt(monkeypatch, disk, State.COMMITTED)
    station.publish(release(2), model_of(2))
    station.run_to(State.PROBATION, 2)
    station.now_s += 10.0
    for _ in range(3):
        station.turn()
    assert full.filled
    assert station.state == (State.PROBATION, 2)
    assert (station.version, station.answers_rightly) == ("2", True)
    make_room(disk)
    station.run_to(State.COMMITTED, 2)


@pytest.mark.parametrize("state", UNDER_WAY)
@pytest.mark.parametrize("kind", ["note", "adopt"])
def test_a_number_that_a_full_disk_does_not_take_ends_nothing(
    station: Station, disk: Path, state: State, kind: str
) -> None:
    station.publish(release(2), model_of(2))
    station.run_to(state, 2)
    number, share = (3, 0.0) if kind == "note" else (2, 1.0)
    newer = release(number, seq=3, rollout=Rollout(id="r", salt="s", share=share))
    fill(disk)
    station.updater.on_manifest(sign_manifest(newer, [station.key]), station.now_s)
    make_room(disk)
    assert station.state == (state, 2)
    station.commit(2)
    assert station.answers_rightly


def make_read_only(disk: Path) -> None:
    wait_until(lambda: mount("-o", "remount,ro", str(disk)), "nobody writes")


def make_writable(disk: Path) -> None:
    assert mount("-o", "remount,rw", str(disk))


@pytest.mark.parametrize("state", FAILING)
def test_a_disk_that_is_read_only_from_a_state_on_costs_the_update_until_it_is_writable(
    station: Station, disk: Path, state: State
) -> None:
    station.publish(release(2), model_of(2))
    station.run_to(state, 2)
    make_read_only(disk)
    run_to_its_end(station)
    end = State.ROLLED_BACK if state in AFTER_THE_SWAP else State.FAILED_NO_STATE_CHANGE
    assert station.state == (end, 2)
    assert "Read-only file system" in station.reports[-1].reason
    assert (station.version, station.answers_rightly) == ("1", True)
    assert station.record.quarantined == ()
    make_writable(disk)
    station.now_s += RECONCILE_S
    station.commit(2)
    assert (station.version, station.answers_rightly) == ("2", True)


class Trouble(NamedTuple):
    """A way in which a disk takes nothing more, and how that ends."""

    begin: Callable[[Path], None]
    end: Callable[[Path], None]


TROUBLES = [
    pytest.param(Trouble(fill, make_room), id="full"),
    pytest.param(Trouble(make_read_only, make_writable), id="read-only"),
]
BROKEN = Health(batches=100, broken_batches=6)
BROKEN_REASON = "6 of 100 batches without sound scores"
QUARANTINED_2 = (Quarantine(file_of(release(2)).sha256, 0),)


def in_probation(station: Station) -> None:
    station.publish(release(2), model_of(2))
    station.run_to(State.PROBATION, 2)


def settled_on_disk(station: Station) -> ChannelRecord:
    """Takes a minute of turns at most, until the disk says how the update has ended, too."""
    for _ in range(60):
        station.turn()
        station.now_s += 1.0
        if station.record.pending is None:
            break
    assert station.record.pending is None
    return station.record


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_good_model_serves_while_the_disk_takes_nothing_and_is_committed_once_it_does(
    station: Station, disk: Path, trouble: Trouble
) -> None:
    in_probation(station)
    before = station.record
    trouble.begin(disk)
    station.now_s += PROBATION_S
    for _ in range(3):
        station.turn()
        assert (station.version, station.answers_rightly) == ("2", True)
    assert station.state == (State.PROBATION, 2)
    assert station.record == before
    trouble.end(disk)
    station.run_to(State.COMMITTED, 2)
    assert (station.version, station.answers_rightly) == ("2", True)
    assert station.active_envelope == sign_manifest(release(2), [station.key])


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_bad_model_gives_way_though_the_disk_takes_no_word_of_it_and_takes_it_later(
    station: Station, disk: Path, release_key: Ed25519PrivateKey, trouble: Trouble
) -> None:
    in_probation(station)
    before = station.record
    trouble.begin(disk)
    station.health = BROKEN
    station.turn()
    assert (station.state, station.reports[-1].reason) == ((State.ROLLED_BACK, 2), BROKEN_REASON)
    assert (station.version, station.answers_rightly) == ("1", True)
    assert station.record == before
    trouble.end(disk)
    record = settled_on_disk(station)
    assert (record.state, record.quarantined) == (State.ROLLED_BACK, QUARANTINED_2)
    assert station.blobs == {file_of(release(1)).sha256}
    station.die()
    again = Station(disk, release_key, station.hub)
    again.start()
    assert (again.version, again.answers_rightly) == ("1", True)
    assert again.reports[-1].reason == BROKEN_REASON
    again.publish(release(2, seq=3), model_of(2))
    again.settle()
    assert again.state == (State.REJECTED, 3)
    again.updater.close()


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_bad_model_stays_away_after_a_crash_on_a_disk_that_has_taken_no_word_of_it(
    station: Station, disk: Path, release_key: Ed25519PrivateKey, trouble: Trouble
) -> None:
    in_probation(station)
    trouble.begin(disk)
    station.health = BROKEN
    station.turn()
    station.link.disconnect()  # and no more: the disk takes nothing, so it must be as it is
    station.hub.links.remove(station.link)
    again = Station(disk, release_key, station.hub)
    again.start()
    again.settle()
    assert (again.version, again.answers_rightly) == ("1", True)
    assert again.state == (State.ROLLED_BACK, 2)
    trouble.end(disk)
    record = settled_on_disk(again)
    assert (record.state, record.quarantined) == (State.ROLLED_BACK, QUARANTINED_2)
    assert again.active_envelope == sign_manifest(release(1), [again.key])
    again.updater.close()


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_disk_that_failed_at_the_swap_speaks_against_no_model_in_the_next_life(
    station: Station, disk: Path, release_key: Ed25519PrivateKey, trouble: Trouble
) -> None:
    station.publish(release(2), model_of(2))
    station.run_to(State.ACTIVATING, 2)
    trouble.begin(disk)
    station.run_to(State.ROLLED_BACK, 2)
    trouble.end(disk)
    settled_on_disk(station)
    station.die()
    again = Station(disk, release_key, station.hub)
    again.start()
    assert (again.version, again.answers_rightly) == ("1", True)
    assert again.record.quarantined == ()
    again.commit(2)
    assert (again.version, again.answers_rightly) == ("2", True)
    again.updater.close()


@pytest.mark.parametrize("state", UNDER_WAY)
def test_a_node_that_starts_on_a_read_only_disk_serves_what_it_has(
    station: Station, disk: Path, release_key: Ed25519PrivateKey, state: State
) -> None:
    station.publish(release(2), model_of(2))
    station.run_to(state, 2)
    station.die()
    make_read_only(disk)
    again = Station(disk, release_key, station.hub)
    again.start()
    again.settle()
    assert (again.version, again.answers_rightly) == ("1", True)
    make_writable(disk)
    again.now_s += RECONCILE_S
    if state in AFTER_THE_SWAP:
        again.settle()
        assert again.state == (State.ROLLED_BACK, 2)
    else:
        again.commit(2)
    assert again.answers_rightly
    again.updater.close()


def test_a_torn_record_on_a_read_only_disk_does_not_keep_the_node_from_starting(
    disk: Path, station: Station, release_key: Ed25519PrivateKey
) -> None:
    station.die()
    torn(station, b"torn")
    make_read_only(disk)
    again = Station(disk, release_key, station.hub)
    again.start()
    again.settle()
    assert again.model is None
    make_writable(disk)
    again.publish(release(1), model_of(1))
    again.now_s += RECONCILE_S
    again.commit(1)
    again.updater.close()
