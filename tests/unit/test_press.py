"""The newest manifest of each channel is at the broker, behind what it names, and a halt first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from cloud.press import RETRY_S, Press
from cloud.registry import Entry
from shared.metrics import CloudMetrics
from shared.releases.blobs import BlobStore
from shared.releases.manifest import sign_manifest
from shared.topics import Topics
from tests.builders import CHANNEL, diagonal_onnx, file_of, manifest
from tests.fakes import FakeBroker, FakeLink

TOPICS = Topics("escalon", "cloud")
DATA = diagonal_onnx(1.0)


class Rig:
    def __init__(self, folder: Path, key: Ed25519PrivateKey) -> None:
        self.hub = FakeBroker()
        self.link = FakeLink(self.hub)
        self.key = key
        self.blobs = BlobStore(folder)
        self.blobs.add(DATA)
        drops = CloudMetrics(CollectorRegistry()).drops
        self.press = Press(self.blobs, self.link, TOPICS, drops)
        self.press.start()

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


def test_files_of_the_release_before_stay_and_older_ones_are_taken_off(rig: Rig) -> None:
    models = [diagonal_onnx(float(number)) for number in (1, 2, 3)]
    for data in models:
        rig.blobs.add(data)
    chunks = [TOPICS.blob(file_of(manifest(data)).sha256, 0) for data in models]
    for seq, data in enumerate(models, 1):
        rig.put(rig.entry(seq, data))
    assert [chunk in rig.hub.retained for chunk in chunks] == [False, True, True]
    rig.put(rig.entry(4, models[0]))  # an old version again
    assert [chunk in rig.hub.retained for chunk in chunks] == [True, False, True]
    assert rig.press.out(CHANNEL) == 4
