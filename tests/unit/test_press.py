"""The newest manifest of each channel is at the broker, behind what it names, and a halt first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from cloud import retained_file
from cloud.press import RETRY_S, Press
from cloud.registry import Entry
from cloud.retained_file import RetainedFile
from shared.errors import StorageError
from shared.messages import SCHEMA_VERSION, BlobRequest, pack
from shared.metrics import CloudMetrics
from shared.releases.blobs import BlobStore
from shared.releases.manifest import sign_manifest
from shared.topics import Topics
from tests.builders import CHANNEL, diagonal_onnx, file_of, manifest, variant
from tests.fakes import FakeBroker, FakeLink

TOPICS = Topics("escalon", "cloud")
DATA = diagonal_onnx(1.0)
MODELS = [diagonal_onnx(float(number)) for number in (1, 2, 3)]


class Rig:
    """A press on a folder and a broker; another one on both is the next life of the first."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey, hub: FakeBroker | None = None) -> None:
        self.hub = hub or FakeBroker()
        self.link = FakeLink(self.hub)
        self.folder = folder
        self.key = key
        self.blobs = BlobStore(folder)
        self.blobs.add(DATA)
        drops = CloudMetrics(CollectorRegistry()).drops
        self.press = Press(self.blobs, self.link, TOPICS, drops, RetainedFile.of(folder))
        self.press.start()

    def restarted(self) -> Rig:
        """Kills the process; returns the next one, which is connected."""
        self.link.disconnect()
        return Rig(self.folder, self.key, self.hub)

    def entry(self, seq: int, data: bytes = DATA, **changes: Any) -> Entry:
        described = manifest(data, seq=seq, **changes)
        return Entry(sign_manifest(described, [self.key]), described)

    def turns(self, now_s: float = 1.0, count: int = 20) -> None:
        for _ in range(count):
            for message in self.link.receive():
                self.press.take(message, now_s)
            self.press.poll(now_s)

    def put(self, entry: Entry, now_s: float = 1.0) -> None:
        self.press.put(CHANNEL, entry, now_s)
        self.turns(now_s)

    def keep(self, *entries: Entry, now_s: float = 1.0) -> None:
        self.press.keep(CHANNEL, [each.manifest.release for each in entries], now_s)
        self.turns(now_s)

    def retains(self, *files: bytes) -> list[bool]:
        """Whether the broker has a chunk of each file."""
        chunks = [TOPICS.blob(file_of(manifest(data)).sha256, 0) for data in files]
        return [chunk in self.hub.retained for chunk in chunks]

    @property
    def listed(self) -> set[str]:
        """Digests of what may be at the broker, by the disk."""
        return {each.sha256 for each in RetainedFile.of(self.folder).read().get(CHANNEL, ())}

    def topics(self) -> list[str]:
        return [each.topic for each in self.hub.published]

    @property
    def chunk(self) -> str:
        return TOPICS.blob(file_of(manifest(DATA)).sha256, 0)

    @property
    def retained(self) -> bytes | None:
        return self.hub.retained.get(TOPICS.releases(CHANNEL))


@pytest.fixture
def rig(tmp_path: Path, release_key: Ed25519PrivateKey) -> Rig:
    return Rig(tmp_path, release_key)


def test_files_come_first_and_the_number_is_out_once_the_manifest_is_there(rig: Rig) -> None:
    entry = rig.entry(3)
    assert rig.press.out(CHANNEL) == 0
    rig.put(entry)
    assert rig.retained == entry.envelope
    assert rig.topics().index(rig.chunk) < rig.topics().index(TOPICS.releases(CHANNEL))
    assert rig.press.out(CHANNEL) == 3


def test_the_same_entry_once_more_is_published_once(rig: Rig) -> None:
    entry = rig.entry(3)
    rig.put(entry)
    before = rig.topics()
    rig.put(entry)
    assert rig.topics() == before


def test_the_next_wave_does_not_bring_the_files_again(rig: Rig) -> None:
    rig.put(rig.entry(1))
    rig.put(rig.entry(2))
    assert rig.topics().count(rig.chunk) == 1
    assert rig.press.out(CHANNEL) == 2


def test_a_new_connection_brings_everything_again(rig: Rig) -> None:
    rig.put(rig.entry(1))
    rig.put(rig.entry(2))
    rig.link.cut()
    rig.hub.retained.clear()
    rig.link.connect()
    rig.press.on_connected(2.0)
    rig.turns()
    assert rig.retained == rig.entry(2).envelope
    assert rig.chunk in rig.hub.retained


def test_a_halt_does_not_wait_behind_files_that_are_under_way(rig: Rig) -> None:
    rig.link.holds_acks = True
    rig.put(rig.entry(1))
    assert rig.retained is None
    rig.link.holds_acks = False
    halted = rig.entry(2, state="halted")
    sent = len(rig.topics())
    rig.press.put(CHANNEL, halted, 1.0)
    assert rig.topics()[sent:] == [TOPICS.releases(CHANNEL)]


def test_a_halt_that_was_decided_while_the_link_was_cut_goes_out_before_any_file(rig: Rig) -> None:
    rig.put(rig.entry(1))
    rig.link.disconnect()
    halted = rig.entry(2, state="halted")
    rig.put(halted)
    sent = len(rig.hub.published)
    rig.link.connect()
    rig.press.on_connected(1.0)
    rig.turns()
    assert [each.payload for each in rig.hub.published[sent:]] == [halted.envelope]


def test_a_halt_goes_out_though_its_file_is_lost(rig: Rig) -> None:
    rig.put(rig.entry(1))
    rig.blobs.path(file_of(manifest(DATA)).sha256).unlink()
    rig.link.disconnect()
    halted = rig.entry(2, state="halted")
    rig.put(halted)
    rig.link.connect()
    rig.press.on_connected(1.0)
    rig.turns()
    assert rig.retained == halted.envelope


def test_what_was_halted_before_its_files_were_out_brings_them_when_it_goes_on(rig: Rig) -> None:
    rig.put(rig.entry(1, state="halted"))
    assert rig.chunk not in rig.hub.retained
    rig.put(rig.entry(2))
    assert rig.chunk in rig.hub.retained
    assert rig.press.out(CHANNEL) == 2


def test_a_lost_file_keeps_its_manifest_back_and_is_looked_for_again(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    other = diagonal_onnx(2.0)
    rig.put(rig.entry(1, other))
    assert "cannot be published" in caplog.text
    assert (rig.retained, rig.press.out(CHANNEL)) == (None, 0)
    rig.blobs.add(other)
    rig.turns(1.0 + RETRY_S / 2)
    assert rig.retained is None
    rig.turns(1.0 + RETRY_S)
    assert rig.press.out(CHANNEL) == 1


def test_what_waits_for_a_connection_goes_out_with_it(rig: Rig) -> None:
    rig.link.cut()
    rig.put(rig.entry(1))
    rig.link.connect()
    rig.press.on_connected(2.0)
    rig.turns()
    assert rig.press.out(CHANNEL) == 1


# What is beside the newest


def published(rig: Rig) -> list[Entry]:
    """Publishes three releases, one after the other."""
    for data in MODELS:
        rig.blobs.add(data)
    entries = [rig.entry(seq, data) for seq, data in enumerate(MODELS, 1)]
    for entry in entries:
        rig.put(entry)
    return entries


def test_files_that_nodes_may_still_fetch_stay_and_all_others_are_taken_off(rig: Rig) -> None:
    first, _, third = published(rig)
    assert rig.retains(*MODELS) == [True, True, True]
    rig.keep(first, third)
    assert rig.retains(*MODELS) == [True, False, True]
    rig.put(rig.entry(4, MODELS[1]))  # an old version again
    assert rig.retains(*MODELS) == [True, True, True]
    assert rig.press.out(CHANNEL) == 4


def test_what_an_earlier_process_has_left_is_taken_off(rig: Rig) -> None:
    _, second, third = published(rig)
    after = rig.restarted()
    after.keep(second, third)
    assert after.retains(*MODELS) == [False, True, True]
    assert after.listed == second.manifest.release.digests | third.manifest.release.digests


def test_what_a_process_was_killed_over_is_taken_off_by_the_next_one(rig: Rig) -> None:
    _, second, third = published(rig)
    rig.link.full = True
    rig.keep(second, third)
    assert rig.retains(*MODELS) == [True, True, True]
    after = rig.restarted()
    after.keep(second, third)
    assert after.retains(*MODELS) == [False, True, True]
    assert len(after.listed) == 2


def test_it_stays_on_the_list_until_the_broker_has_answered(rig: Rig) -> None:
    _, second, third = published(rig)
    rig.link.holds_acks = True
    rig.keep(second, third)
    assert len(rig.listed) == 3
    rig.link.holds_acks = False
    rig.turns()
    assert len(rig.listed) == 2


def test_after_a_restart_nodes_get_a_file_that_is_not_the_newest_ones(rig: Rig) -> None:
    described = file_of(manifest(DATA))
    pulled = variant(DATA, artefact=msgspec.structs.replace(described, delivery="pull"))
    rig.put(rig.entry(1, variants=(pulled,)))
    rig.blobs.add(MODELS[1])
    rig.put(rig.entry(2, MODELS[1]))
    after = rig.restarted()
    after.put(after.entry(2, MODELS[1]))
    asks = pack(BlobRequest(SCHEMA_VERSION, described.sha256, (0,)))
    after.hub.publish(TOPICS.blob_requests("gateway"), asks)
    after.turns()
    assert after.hub.payloads(rig.chunk) == [BlobStore(rig.folder).chunk(described, 0)]


def test_a_disk_that_takes_no_list_keeps_no_manifest_back_and_has_it_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise StorageError("no space left")

    with monkeypatch.context() as disk:
        disk.setattr(retained_file, "write_durably", full)
        rig.put(rig.entry(1))
    assert rig.press.out(CHANNEL) == 1
    assert caplog.text.count("no space left") == 1
    assert rig.listed == set()
    rig.turns(1.0 + RETRY_S)
    assert rig.listed == rig.entry(1).manifest.release.digests


def test_a_damaged_list_is_said_and_begins_anew(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.put(rig.entry(1))
    (rig.folder / "retained.json").write_bytes(b'{"channels": {')
    after = rig.restarted()
    assert "retained.json is damaged" in caplog.text
    after.put(after.entry(1))
    assert after.listed == rig.entry(1).manifest.release.digests
