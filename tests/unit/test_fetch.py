"""A fetch asks for exactly what is missing, a window at a time, and believes no chunk."""

from __future__ import annotations

import logging
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from shared.errors import StorageError
from shared.messages import BlobRequest, unpack
from shared.metrics import NodeMetrics
from shared.releases.artefact import MAX_CHUNK_BYTES, Artefact
from shared.releases.blob_server import BlobServer
from shared.releases.blobs import BlobStore, chunked, describe
from shared.releases.fetch import ASK_AGAIN_S, WINDOW, Fetch
from shared.releases.incoming import Incoming
from shared.topics import Topics
from tests.fakes import FakeBroker, FakeLink, Published

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

    def make(self, artefact: Artefact = ARTEFACT, **more: Any) -> Fetch:
        return Fetch(artefact, self.blobs, self.link, TOPICS, self.metrics, **more)

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


def test_what_came_is_counted_by_its_bytes_and_its_share(rig: Rig) -> None:
    rig.blobs.add_chunk(ARTEFACT, 0, PARTS[0])
    rig.fetch.begin(0.0)
    assert (rig.fetch.chunks_done, rig.fetch.bytes_fetched) == (1, 0)
    for index in range(1, 20):
        rig.fetch.on_chunk(index, PARTS[index], 0.0)
    assert (rig.fetch.chunks_done, rig.fetch.bytes_fetched) == (20, 95)
    assert rig.fetch.share == 0.5
    assert not rig.fetch.complete


def test_each_tenth_of_the_file_is_said(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rig.blobs.add_chunk(ARTEFACT, 0, PARTS[0])
    rig.fetch.begin(0.0)
    for index in range(1, len(PARTS)):
        rig.fetch.on_chunk(index, PARTS[index], 0.0)
    said = [record.getMessage().split(": ")[1] for record in caplog.records]
    assert said == [f"{number} of 40 chunks here" for number in range(4, 41, 4)]


def test_before_it_has_looked_nothing_is_complete(rig: Rig) -> None:
    assert not rig.fetch.complete


def test_repeated_and_foreign_chunks_are_counted_and_cost_nothing(rig: Rig) -> None:
    rig.fetch.begin(0.0)
    rig.fetch.on_chunk(0, PARTS[0], 0.0)
    rig.fetch.on_chunk(0, PARTS[0], 0.0)
    rig.fetch.on_chunk(len(PARTS), PARTS[0], 0.0)
    rig.fetch.on_chunk(-1, PARTS[-1], 0.0)
    rig.fetch.on_chunk(2, PARTS[1], 0.0)
    assert rig.drops("repeated_chunk") == 1
    assert rig.drops("foreign_chunk") == 2
    assert rig.drops("bad_chunk") == 1
    assert rig.fetch.bytes_fetched == len(PARTS[0])


def test_chunks_in_any_order_make_the_whole(rig: Rig) -> None:
    rig.fetch.begin(0.0)
    order = list(range(len(PARTS)))
    random.Random(3).shuffle(order)
    for index in order:
        rig.fetch.on_chunk(index, PARTS[index], 0.0)
    assert rig.fetch.complete
    rig.blobs.assemble(ARTEFACT)
    assert rig.link.subscriptions == {}


def test_chunks_that_a_broker_lost_do_not_keep_the_others_from_coming(rig: Rig) -> None:
    lost = set(range(WINDOW))
    for index in set(range(len(PARTS))) - lost:
        rig.retain(index)
    rig.fetch.begin(0.0)
    rig.pump(0.0)
    rig.fetch.poll(ASK_AGAIN_S)
    rig.pump(ASK_AGAIN_S)
    assert set(rig.blobs.missing(ARTEFACT)) == lost
    assert len(rig.asked) <= WINDOW


def test_of_the_next_version_only_the_changed_chunks_are_fetched(rig: Rig) -> None:
    rig.blobs.add(DATA)
    newer = DATA[:50] + b"12345" + DATA[55:190] + DATA[:10]
    artefact = describe(newer, 5, "fp32")
    for index, part in enumerate(chunked(newer, 5)):
        rig.hub.publish(TOPICS.blob(artefact.sha256, index), part, retain=True)
    rig.fetch = rig.make(artefact, known=[ARTEFACT])
    rig.fetch.begin(0.0)
    while rig.fetch.busy:
        rig.fetch.poll(0.0)
    rig.pump(0.0)
    assert [int(topic.rsplit("/", 1)[1]) for topic in rig.link.subscribed] == [10]
    assert rig.fetch.complete
    assert rig.fetch.bytes_fetched == 5
    rig.blobs.assemble(artefact)
    assert rig.blobs.path(artefact.sha256).read_bytes() == newer


def test_a_chunk_that_a_full_disk_did_not_take_is_copied_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.blobs.add(DATA)
    artefact = describe(DATA[::-1] + DATA, 5, "fp32")
    for index, part in enumerate(chunked(DATA[::-1], 5)):
        rig.hub.publish(TOPICS.blob(artefact.sha256, index), part, retain=True)
    rig.fetch = rig.make(artefact, known=[ARTEFACT])
    with monkeypatch.context() as disk:
        disk.setattr(Incoming, "put", full)
        with pytest.raises(StorageError):
            rig.fetch.begin(0.0)
    while rig.fetch.busy:
        rig.fetch.poll(0.0)
    rig.fetch.poll(0.0)
    rig.pump(0.0)
    assert rig.fetch.complete
    rig.blobs.assemble(artefact)


def test_two_that_fetch_one_file_over_one_link_do_not_keep_each_other_from_it(
    rig: Rig, tmp_path: Path, metrics: NodeMetrics
) -> None:
    for index in range(len(PARTS)):
        rig.retain(index)
    other = Fetch(ARTEFACT, BlobStore(tmp_path / "other"), rig.link, TOPICS, metrics)
    rig.fetch.begin(0.0)
    other.begin(0.0)
    rig.fetch.end()
    for turn in range(1, len(PARTS)):
        other.poll(turn * ASK_AGAIN_S)
        for message in rig.link.receive():
            other.on_chunk(int(message.topic.rsplit("/", 1)[1]), message.payload, 0.0)
    assert other.complete


def test_a_damaged_older_version_is_not_copied_from(rig: Rig) -> None:
    rig.blobs.add(DATA)
    rig.blobs.path(ARTEFACT.sha256).write_bytes(DATA[:-1] + b"!")
    artefact = describe(DATA + b"12345", 5, "fp32")
    rig.fetch = rig.make(artefact, known=[ARTEFACT])
    rig.fetch.begin(0.0)
    assert rig.fetch.chunks_done == 0
    assert rig.asked == list(range(WINDOW))


def full(*_: object) -> None:
    raise StorageError("no space left")


class PullRig(Rig):
    """Nothing is retained: a server at the same broker answers."""

    def __init__(self, folder: Path, metrics: NodeMetrics, data: bytes, chunk_bytes: int) -> None:
        super().__init__(folder / "node", metrics)
        self.pulled = describe(data, chunk_bytes, "fp32", pull_above_bytes=0)
        self.server_link = FakeLink(self.hub)
        self.store = BlobStore(folder / "server")
        self.store.add(data)
        self.server = BlobServer(self.server_link, TOPICS, metrics.drops)
        self.server.start()
        self.server.offer(self.pulled, self.store)
        self.fetch = self.make(self.pulled, node="press-1")
        self.now_s = 0.0

    def turn(self) -> None:
        self.fetch.poll(self.now_s)
        self.serve()
        self.pump(self.now_s)

    def serve(self) -> None:
        for message in self.server_link.receive():
            self.server.on_request(message.topic, message.payload)
            self.server_link.done(message)
        self.server.poll()

    def until_complete(self) -> None:
        for _ in range(100 * len(self.pulled.chunks)):
            if self.fetch.complete:
                break
            self.turn()
        self.blobs.assemble(self.pulled)

    @property
    def requests(self) -> list[BlobRequest]:
        payloads = self.hub.payloads(TOPICS.blob_requests("press-1"))
        return [unpack(payload, BlobRequest) for payload in payloads]

    @property
    def sent(self) -> list[str]:
        return [each.topic for each in self.hub.published if "/blobs/" in each.topic]


@pytest.fixture
def pull_rig(tmp_path: Path, metrics: NodeMetrics) -> PullRig:
    return PullRig(tmp_path, metrics, DATA, 5)


def test_what_is_not_retained_is_asked_for_and_each_chunk_is_sent_once(pull_rig: PullRig) -> None:
    pull_rig.fetch.begin(0.0)
    pull_rig.until_complete()
    assert pull_rig.blobs.path(ARTEFACT.sha256).read_bytes() == DATA
    assert len(pull_rig.sent) == len(set(pull_rig.sent)) == len(PARTS)
    asked = [index for request in pull_rig.requests for index in request.indices]
    assert sorted(asked) == list(range(len(PARTS)))
    assert len(pull_rig.requests) < len(PARTS) / 4
    assert pull_rig.link.subscriptions == {}
    assert pull_rig.hub.retained == {}


def test_no_more_than_a_window_is_asked_for_at_a_time(pull_rig: PullRig) -> None:
    pull_rig.fetch.begin(0.0)
    for _ in range(5):
        pull_rig.fetch.poll(0.0)
    assert sum(len(request.indices) for request in pull_rig.requests) == WINDOW


def test_an_answer_that_is_lost_is_asked_for_again_after_the_time_out(pull_rig: PullRig) -> None:
    pull_rig.fetch.begin(0.0)
    pull_rig.serve()
    pull_rig.link.receive()  # lost on the way
    pull_rig.turn()
    assert len(pull_rig.requests) == 1
    pull_rig.now_s = ASK_AGAIN_S
    pull_rig.until_complete()
    assert pull_rig.fetch.complete


def test_who_is_done_with_a_file_keeps_no_other_on_its_link_from_it(
    pull_rig: PullRig, tmp_path: Path, metrics: NodeMetrics
) -> None:
    first = Fetch(pull_rig.pulled, BlobStore(tmp_path / "1"), pull_rig.link, TOPICS, metrics)
    first.begin(0.0)
    pull_rig.fetch.begin(0.0)
    first.end()
    pull_rig.turn()
    pull_rig.now_s = ASK_AGAIN_S
    pull_rig.until_complete()


def test_after_a_cut_link_it_asks_at_once(pull_rig: PullRig) -> None:
    pull_rig.fetch.begin(0.0)
    pull_rig.link.disconnect()
    pull_rig.serve()
    pull_rig.turn()
    pull_rig.link.connect()
    pull_rig.until_complete()
    assert pull_rig.now_s == 0.0


def test_without_a_link_nothing_is_asked_and_nothing_counted_as_asked(pull_rig: PullRig) -> None:
    pull_rig.link.disconnect()
    pull_rig.fetch.begin(0.0)
    pull_rig.turn()
    assert pull_rig.requests == []
    pull_rig.link.connect()
    pull_rig.until_complete()


def test_nodes_that_fetch_at_the_same_time_use_each_others_answers(
    tmp_path: Path, metrics: NodeMetrics
) -> None:
    rig = PullRig(tmp_path, metrics, random.Random(5).randbytes(1000), 5)
    links = [FakeLink(rig.hub) for _ in range(10)]
    others = [
        Fetch(
            rig.pulled, BlobStore(tmp_path / f"press-{number}"), link, TOPICS, metrics,
            node=f"press-{number}", rng=random.Random(number),
        )
        for number, link in enumerate(links)
    ]  # fmt: skip
    for fetch in (rig.fetch, *others):
        fetch.begin(0.0)
    while not all(fetch.complete for fetch in (rig.fetch, *others)):
        rig.turn()
        for fetch, link in zip(others, links, strict=True):
            fetch.poll(0.0)
            for message in link.receive():
                chunk = TOPICS.blob_chunk(message.topic)
                assert chunk is not None
                fetch.on_chunk(chunk[1], message.payload, 0.0)
    assert len(rig.pulled.chunks) <= len(rig.sent) < 2 * len(rig.pulled.chunks)


def test_64_mib_come_by_request_with_a_few_chunks_in_memory(
    tmp_path: Path, metrics: NodeMetrics
) -> None:
    block = random.Random(4).randbytes(2**20)
    data = b"".join(bytes([each]) + block[1:] for each in range(64))
    rig = PullRig(tmp_path, metrics, data, MAX_CHUNK_BYTES)
    del data
    rig.hub.published = Topicless()
    tracemalloc.start()
    rig.fetch.begin(0.0)
    rig.until_complete()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rig.blobs.has(rig.pulled)
    assert rig.pulled.size == 2**26
    assert rig.hub.published.bytes == rig.pulled.size + rig.hub.published.other_bytes
    assert peak_bytes < 2 * (WINDOW + 8) * MAX_CHUNK_BYTES


class Topicless(list[Published]):
    """Counts what was published, and keeps none of it."""

    bytes = 0
    other_bytes = 0

    def append(self, message: Published) -> None:
        """Counts."""
        self.bytes += len(message.payload)
        self.other_bytes += len(message.payload) * ("/blobs/" not in message.topic)
