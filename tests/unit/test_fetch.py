"""A fetch asks for exactly what is missing, a window at a time, and believes no chunk."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.metrics import NodeMetrics
from shared.releases.blobs import BlobStore, chunked, describe
from shared.releases.fetch import ASK_AGAIN_S, WINDOW, Fetch
from shared.topics import Topics
from tests.fakes import FakeBroker, FakeLink

TOPICS = Topics("escalon", "site-a")
DATA = bytes(range(200))
ARTEFACT = describe(DATA, 5, "fp32")
PARTS = chunked(DATA, 5)


class Rig:
    """A fetch between a broker in memory and a folder."""

    def __init__(self, folder: Path, metrics: NodeMetrics) -> None:
        self.hub = FakeBroker()
        self.link = FakeLink(self.hub)
        self.blobs = BlobStore(folder)
        self.metrics = metrics
        self.fetch = self.make()

    def make(self) -> Fetch:
        return Fetch(ARTEFACT, self.blobs, self.link, TOPICS, self.metrics)

    def retain(self, index: int, part: bytes | None = None) -> None:
        topic = TOPICS.blob(ARTEFACT.sha256, index)
        self.hub.publish(topic, PARTS[index] if part is None else part, retain=True)

    def pump(self, now_s: float) -> None:
        """Hands on what arrived until nothing more comes."""
        while messages := self.link.receive():
            for message in messages:
                chunk = TOPICS.blob_chunk(message.topic)
                assert chunk is not None
                self.fetch.on_chunk(chunk[1], message.payload, now_s)

    @property
    def asked(self) -> list[int]:
        return [int(topic.rsplit("/", 1)[1]) for topic in self.link.subscriptions]

    def drops(self, reason: str) -> float:
        value = self.metrics.registry.get_sample_value("edge_drops_total", {"reason": reason})
        return value or 0.0


@pytest.fixture
def rig(tmp_path: Path, metrics: NodeMetrics) -> Rig:
    return Rig(tmp_path, metrics)


def test_all_chunks_come_over_one_window_after_the_other(rig: Rig) -> None:
    for index in range(len(PARTS)):
        rig.retain(index)
    rig.fetch.begin(0.0)
    assert not rig.fetch.complete
    assert rig.asked == list(range(WINDOW))
    rig.pump(0.0)
    assert rig.fetch.complete
    assert rig.link.subscriptions == {}
    rig.blobs.assemble(ARTEFACT)
    assert rig.blobs.path(ARTEFACT.sha256).read_bytes() == DATA


def test_at_no_time_is_more_than_a_window_asked_for_nor_a_wildcard(rig: Rig) -> None:
    rig.fetch.begin(0.0)
    for index in range(len(PARTS)):
        rig.retain(index)
        rig.pump(0.0)
        assert len(rig.asked) <= WINDOW
    assert rig.fetch.complete
    assert not any(set(topic) & set("+#") for topic in rig.link.subscribed)


def test_what_is_on_disk_already_is_not_asked_for(rig: Rig) -> None:
    for index in (0, 2, 3):
        rig.blobs.add_chunk(ARTEFACT, index, PARTS[index])
    rig.fetch.begin(0.0)
    assert rig.asked[:3] == [1, 4, 5]


def test_a_whole_artefact_is_complete_at_once(rig: Rig) -> None:
    rig.blobs.add(DATA)
    rig.fetch.begin(0.0)
    assert rig.fetch.complete
    assert rig.asked == []


def test_a_wrong_chunk_is_counted_and_asked_for_again_until_the_right_one_comes(rig: Rig) -> None:
    for index in range(len(PARTS)):
        rig.retain(index)
    rig.retain(7, b"wrong")
    rig.fetch.begin(0.0)
    rig.pump(0.0)
    assert not rig.fetch.complete
    assert rig.asked == [7]
    assert rig.drops("bad_chunk") == 1
    rig.fetch.poll(ASK_AGAIN_S / 2)
    assert rig.link.receive() == []
    rig.retain(7)
    rig.link.receive()  # lost on the way
    rig.fetch.poll(ASK_AGAIN_S)
    rig.pump(ASK_AGAIN_S)
    assert rig.fetch.complete


def test_a_chunk_that_nobody_asked_for_is_left_alone(rig: Rig) -> None:
    rig.fetch.begin(0.0)
    rig.fetch.on_chunk(len(PARTS), b"x", 0.0)
    rig.fetch.on_chunk(-1, b"x", 0.0)
    assert rig.drops("bad_chunk") == 0
    assert rig.blobs.missing(ARTEFACT) == list(range(len(PARTS)))


def test_the_same_chunk_twice_is_taken_once(rig: Rig) -> None:
    rig.fetch.begin(0.0)
    rig.fetch.on_chunk(0, PARTS[0], 0.0)
    rig.fetch.on_chunk(0, b"later and wrong", 0.0)
    assert 0 not in rig.blobs.missing(ARTEFACT)
    assert rig.drops("bad_chunk") == 0


def test_ending_leaves_no_subscription(rig: Rig) -> None:
    rig.fetch.begin(0.0)
    rig.fetch.end()
    assert rig.link.subscriptions == {}


def test_a_reconnect_brings_what_was_asked_for(rig: Rig) -> None:
    rig.fetch.begin(0.0)
    rig.link.disconnect()
    for index in range(len(PARTS)):
        rig.retain(index)
    rig.pump(0.0)
    assert not rig.fetch.complete
    rig.link.connect()
    rig.pump(0.0)
    assert rig.fetch.complete
