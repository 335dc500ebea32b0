"""Every node gets its turn, nothing is sent past the window, and nothing unknown is answered."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.messages import MAX_ASKED_CHUNKS, SCHEMA_VERSION, BlobRequest, pack
from shared.metrics import NodeMetrics
from shared.releases.blob_server import MAX_REQUEST_BYTES, WINDOW, BlobServer
from shared.releases.blobs import BlobStore, chunked, describe
from shared.releases.request_queue import MAX_PER_NODE, RequestQueue, Wanted
from shared.topics import Topics
from tests.fakes import FakeBroker, FakeLink

TOPICS = Topics("escalon", "site-a")
DATA = bytes(index % 251 for index in range(500))
ARTEFACT = describe(DATA, 5, "fp32", pull_above_bytes=0)
PARTS = chunked(DATA, 5)
A, B = "a" * 64, "b" * 64


def some(count: int, sha256: str = A) -> list[Wanted]:
    return [Wanted(sha256, index) for index in range(count)]


def test_nodes_take_turns_so_that_one_that_asks_for_much_keeps_no_other_waiting() -> None:
    queue = RequestQueue()
    queue.add("greedy", some(50))
    queue.add("modest", some(2, B))
    taken = [queue.take() for _ in range(4)]
    assert taken == [Wanted(A, 0), Wanted(B, 0), Wanted(A, 1), Wanted(B, 1)]


def test_what_several_nodes_want_is_answered_once() -> None:
    queue = RequestQueue()
    for node in ("one", "two", "three"):
        assert not queue.add(node, some(3))
    taken = [queue.take() for _ in range(4)]
    assert taken == [*some(3), None]


def test_what_a_node_waits_for_already_and_what_is_too_much_is_dropped_with_its_reason() -> None:
    queue = RequestQueue(max_per_node=4, max_total=6)
    assert not queue.add("one", some(3))
    assert queue.add("one", some(6)) == {"repeated_request": 3, "node_asks_too_much": 2}
    assert queue.add("two", some(3, B)) == {"too_many_requests": 1}
    assert len(queue) == 6


@given(
    st.lists(
        st.one_of(
            st.none(), st.tuples(st.sampled_from("xyz"), st.sets(st.integers(0, 9), max_size=6))
        ),
        max_size=40,
    )
)
def test_whatever_is_asked_the_queue_stays_within_bounds_and_answers_all_it_took(
    course: list[tuple[str, set[int]] | None],
) -> None:
    queue = RequestQueue(max_per_node=4, max_total=8)
    waiting: set[tuple[str, Wanted]] = set()
    for step in course:
        if step is None:
            taken = queue.take()
            assert (taken is None) == (not waiting)
            waiting = {each for each in waiting if each[1] != taken}
            continue
        node, chunks = step
        wanted = [Wanted(A, chunk) for chunk in sorted(chunks)]
        for each in wanted:
            if not queue.add(node, [each]):
                waiting.add((node, each))
        assert len(queue) == len(waiting) <= 8
        assert sum(who == node for who, _ in waiting) <= 4


class Rig:
    """A server at a broker in memory, and a node that asks."""

    def __init__(self, folder: Path, metrics: NodeMetrics) -> None:
        self.hub = FakeBroker()
        self.link = FakeLink(self.hub)
        self.metrics = metrics
        self.blobs = BlobStore(folder)
        self.blobs.add(DATA)
        self.server = BlobServer(self.link, TOPICS, metrics.drops)
        self.server.start()
        self.server.offer(ARTEFACT, self.blobs)

    def ask(self, node: str, *indices: int, sha256: str = ARTEFACT.sha256) -> None:
        request = BlobRequest(SCHEMA_VERSION, sha256, indices)
        self.hub.publish(TOPICS.blob_requests(node), pack(request))
        self.turn()

    def turn(self) -> None:
        for message in self.link.receive():
            assert self.server.on_request(message.topic, message.payload)
            self.link.done(message)
        self.server.poll()

    @property
    def answers(self) -> list[int]:
        head = TOPICS.blob(ARTEFACT.sha256, 0)[:-1]
        return [int(each.topic.removeprefix(head)) for each in self.hub.published]

    def drops(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("edge_drops_total", {"reason": reason}) or 0.0


@pytest.fixture
def rig(tmp_path: Path, metrics: NodeMetrics) -> Rig:
    return Rig(tmp_path, metrics)


def test_a_request_is_answered_on_the_blobs_topics_and_nothing_is_retained(rig: Rig) -> None:
    rig.ask("press-1", 3, 5)
    assert rig.answers == [3, 5]
    assert [message.payload for message in rig.hub.published] == [PARTS[3], PARTS[5]]
    assert not any(message.retain for message in rig.hub.published)
    assert rig.hub.retained == {}


def test_no_more_than_a_window_is_on_its_way_to_the_broker(rig: Rig) -> None:
    rig.link.holds_acks = True
    rig.ask("press-1", *range(40))
    rig.turn()
    assert rig.answers == list(range(WINDOW))
    rig.link.holds_acks = False
    for _ in range(40):
        rig.turn()
    assert rig.answers == list(range(40))


def test_a_link_that_takes_nothing_for_a_while_delays_and_loses_nothing(rig: Rig) -> None:
    rig.link.full = True
    rig.ask("press-1", 1, 2)
    assert rig.answers == []
    rig.link.full = False
    rig.turn()
    assert rig.answers == [1, 2]


def test_behind_a_cut_link_what_was_asked_waits(rig: Rig) -> None:
    rig.link.holds_acks = True
    rig.ask("press-1", *range(20))
    rig.link.disconnect()
    rig.server.poll()
    rig.link.connect()
    rig.link.holds_acks = False
    for _ in range(20):
        rig.turn()
    assert set(rig.answers) == set(range(20))


def test_a_node_that_floods_is_held_to_its_share_and_counted(rig: Rig) -> None:
    rig.link.holds_acks = True
    rig.ask("flood", *range(MAX_ASKED_CHUNKS))
    rig.ask("flood", *range(MAX_ASKED_CHUNKS, 100))
    assert rig.drops("node_asks_too_much") > 0
    sent = len(rig.answers)
    rig.ask("modest", 99)
    rig.link.holds_acks = False
    rig.turn()
    assert 99 in rig.answers[sent : sent + 2]
    assert MAX_PER_NODE >= MAX_ASKED_CHUNKS


@pytest.mark.parametrize(
    ("node", "payload", "reason"),
    [
        pytest.param("n", b"nonsense", "bad_request", id="nonsense"),
        pytest.param("n", b"x" * (MAX_REQUEST_BYTES + 1), "bad_request", id="too-large"),
        pytest.param(
            "n",
            msgspec.msgpack.encode((1, ARTEFACT.sha256, list(range(MAX_ASKED_CHUNKS + 1)))),
            "bad_request",
            id="too-many",
        ),
        pytest.param(
            "n", msgspec.msgpack.encode((1, ARTEFACT.sha256, [-1])), "bad_request", id="negative"
        ),
        pytest.param("n", msgspec.msgpack.encode((1, "../x", [0])), "unknown_blob", id="a-path"),
        pytest.param(
            "n", msgspec.msgpack.encode((1, ARTEFACT.sha256, [100])), "foreign_chunk", id="past-it"
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_counted_and_not_answered(
    rig: Rig, node: str, payload: bytes, reason: str
) -> None:
    assert rig.server.on_request(TOPICS.blob_requests(node), payload)
    rig.turn()
    assert rig.drops(reason) == 1
    assert rig.hub.published == []


@pytest.mark.parametrize("topic", [TOPICS.blob_requests("a b"), TOPICS.blob(A, 1), "x"])
def test_what_is_no_request_by_its_topic_is_somebody_elses(rig: Rig, topic: str) -> None:
    assert not rig.server.on_request(topic, b"")


def test_a_damaged_artefact_is_not_sent(rig: Rig) -> None:
    path = rig.blobs.path(ARTEFACT.sha256)
    path.write_bytes(b"!" + DATA[1:])
    rig.ask("press-1", 0, 1)
    assert rig.answers == [1]
    assert rig.drops("storage") == 1


def test_what_is_withdrawn_is_answered_no_longer(rig: Rig) -> None:
    rig.server.withdraw(ARTEFACT.sha256)
    rig.ask("press-1", 0)
    assert rig.drops("unknown_blob") == 1
    assert rig.answers == []
