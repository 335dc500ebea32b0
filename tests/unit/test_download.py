"""A web server is asked for what is missing, believed nothing, and left when it is of no use."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import StorageError
from shared.metrics import NodeMetrics
from shared.releases import download, web
from shared.releases.blobs import BlobStore, chunked, describe
from shared.releases.download import MAX_FUTILE_ATTEMPTS, Download, runs
from shared.releases.fetch import STALLED_S, Fetch
from shared.releases.packing import pack_chunk
from shared.topics import Topics
from tests.fakes import FakeBroker, FakeLink, wait_until
from tests.web_server import FLOOD_BYTES, Mood, WebServer

TOPICS = Topics("escalon", "site-a")
CHUNK_BYTES = 2**13
DATA = bytes(each & 0x3F for each in random.Random(1).randbytes(2**17 + 100))
PACKED = describe(DATA, CHUNK_BYTES, "int8")
WIRE = [pack_chunk(part) for part in chunked(DATA, CHUNK_BYTES)]
ALL = len(WIRE)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer(b"".join(WIRE)).running() as running:
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_S", 0.001)
    monkeypatch.setattr(web, "READ_TIMEOUT_S", 0.3)


class Rig:
    """A fetch by URL, with a broker behind it that retains the chunks, too."""

    def __init__(self, folder: Path, server: WebServer, metrics: NodeMetrics) -> None:
        self.artefact = msgspec.structs.replace(PACKED, url=server.url)
        self.blobs = BlobStore(folder)
        self.hub = FakeBroker()
        self.link = FakeLink(self.hub)
        self.metrics = metrics
        self.fetch = self.make()

    def make(self, **changes: Any) -> Fetch:
        return Fetch(
            self.artefact, self.blobs, self.link, TOPICS, self.metrics,
            rng=random.Random(1), **changes,
        )  # fmt: skip

    def retain(self) -> None:
        for index, part in enumerate(WIRE):
            self.hub.publish(TOPICS.blob(PACKED.sha256, index), part, retain=True)

    def turn(self) -> None:
        self.fetch.poll(0.0)
        for message in self.link.receive():
            chunk = TOPICS.blob_chunk(message.topic)
            assert chunk is not None
            self.fetch.on_chunk(chunk[1], message.payload, 0.0)

    def until_complete(self) -> None:
        def complete() -> bool:
            self.turn()
            return self.fetch.complete

        wait_until(complete, "the whole artefact")
        self.blobs.assemble(self.artefact)
        assert self.blobs.path(PACKED.sha256).read_bytes() == DATA

    def until_over(self) -> None:
        """Waits until the download has ended, whatever came of it."""

        def over() -> bool:
            self.turn()
            return not self.fetch.busy

        wait_until(over, "the end of the download")

    def drops(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("edge_drops_total", {"reason": reason}) or 0.0


@pytest.fixture
def rig(tmp_path: Path, server: WebServer, metrics: NodeMetrics) -> Rig:
    return Rig(tmp_path, server, metrics)


def test_all_comes_by_one_request_and_nothing_over_mqtt(rig: Rig, server: WebServer) -> None:
    rig.fetch.begin(0.0)
    rig.until_complete()
    assert server.requests == [None]
    assert rig.link.subscribed == []
    assert rig.fetch.bytes_fetched == PACKED.wire_total
    assert (rig.fetch.chunks_done, rig.fetch.share) == (ALL, 1.0)


def test_what_is_on_disk_is_not_asked_for_again(rig: Rig, server: WebServer) -> None:
    here = {0, 1, 7, ALL - 1}
    for index in here:
        rig.blobs.add_chunk(rig.artefact, index, WIRE[index])
    rig.fetch.begin(0.0)
    rig.until_complete()
    assert len(server.requests) == 2
    assert rig.fetch.bytes_fetched == server.sent_bytes
    assert server.sent_bytes == sum(len(WIRE[each]) for each in range(ALL) if each not in here)


def test_a_server_that_knows_no_ranges_is_read_past_what_is_here(
    rig: Rig, server: WebServer
) -> None:
    server.mood = "no_range"
    for index in range(5):
        rig.blobs.add_chunk(rig.artefact, index, WIRE[index])
    rig.fetch.begin(0.0)
    rig.until_complete()
    assert len(server.requests) == 1
    assert rig.fetch.chunks_done == ALL


def test_answers_that_are_cut_are_gone_on_with_where_they_were_cut(
    rig: Rig, server: WebServer
) -> None:
    server.moods = ["truncates"] * 2
    server.cut_at = sum(map(len, WIRE[:6])) + 10
    rig.fetch.begin(0.0)
    rig.until_complete()
    starts = [asked[0] if asked else 0 for asked in server.requests]
    assert starts == [0, sum(map(len, WIRE[:6])), sum(map(len, WIRE[:6]))]
    assert server.sent_bytes <= PACKED.wire_total + 20


def test_a_flipped_chunk_is_counted_and_asked_for_alone(rig: Rig, server: WebServer) -> None:
    server.moods = ["flips"]
    server.flipped_at = sum(map(len, WIRE[:3]))
    rig.fetch.begin(0.0)
    rig.until_complete()
    assert rig.drops("bad_chunk") == 1
    start = sum(map(len, WIRE[:3]))
    assert server.requests == [None, (start, start + len(WIRE[3]) - 1)]


def test_redirects_within_http_are_followed(rig: Rig, server: WebServer) -> None:
    server.mood = "redirects"
    rig.fetch.begin(0.0)
    rig.until_complete()


def test_what_a_server_sends_with_a_redirect_is_not_read(rig: Rig, server: WebServer) -> None:
    server.mood = "floods"
    rig.fetch.begin(0.0)
    rig.until_complete()
    assert server.sent_bytes < FLOOD_BYTES


@pytest.mark.parametrize(
    ("mood", "said"),
    [
        pytest.param("gone", "answers 404 Not Found", id="404"),
        pytest.param("hangs", "does not answer as it should: TimeoutError", id="hangs"),
        pytest.param("truncates", "too early", id="sends-nothing"),
        pytest.param(
            "elsewhere", "url 'file:///etc/passwd' is not allowed", id="redirects-to-a-file"
        ),
        pytest.param("flips", "gave other bytes", id="always-wrong"),
    ],
)
def test_a_server_that_is_of_no_use_is_left_and_the_rest_comes_over_mqtt(
    rig: Rig, server: WebServer, caplog: pytest.LogCaptureFixture, mood: Mood, said: str
) -> None:
    server.mood, server.location = mood, "file:///etc/passwd"
    server.flipped_at = sum(map(len, WIRE[:3]))
    rig.retain()
    rig.fetch.begin(0.0)
    rig.until_complete()
    assert said in caplog.text
    assert "fetching the rest over MQTT" in caplog.text
    assert MAX_FUTILE_ATTEMPTS <= len(server.requests) <= MAX_FUTILE_ATTEMPTS + 1
    expected = {3} if mood == "flips" else set(range(ALL))
    assert {int(topic.rsplit("/", 1)[1]) for topic in rig.link.subscribed} == expected
    assert rig.link.subscriptions == {}


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "data:,x", "gopher://127.0.0.1/"])
def test_no_redirect_leads_out_of_http(
    rig: Rig, server: WebServer, caplog: pytest.LogCaptureFixture, location: str
) -> None:
    server.mood, server.location = "elsewhere", location
    rig.fetch.begin(0.0)
    rig.until_over()
    assert location in caplog.text
    assert "fetching the rest over MQTT" in caplog.text
    assert len(server.requests) == MAX_FUTILE_ATTEMPTS
    assert not rig.fetch.complete


def test_a_server_that_cannot_be_reached_is_said(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.artefact = msgspec.structs.replace(PACKED, url="http://127.0.0.1:1/x")
    rig.fetch = rig.make()
    rig.retain()
    rig.fetch.begin(0.0)
    rig.until_complete()
    assert "http://127.0.0.1:1/x cannot be reached" in caplog.text


def test_a_server_that_dribbles_is_too_slow(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(web, "PIECE_BYTES", 10)
    monkeypatch.setattr(download, "CHUNK_DEADLINE_S", 0.0)
    rig.fetch.begin(0.0)
    rig.until_over()
    assert "is too slow" in caplog.text


def test_a_server_that_keeps_the_thread_busy_for_ever_is_left(
    rig: Rig, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "READ_TIMEOUT_S", 600.0)
    server.mood = "hangs"
    rig.retain()
    rig.fetch.begin(0.0)
    wait_until(lambda: bool(server.requests), "a request")
    rig.fetch.poll(STALLED_S - 1.0)
    assert rig.fetch.busy
    rig.fetch.poll(STALLED_S)
    assert not rig.fetch.busy
    rig.until_complete()


def test_an_artefact_of_older_chunks_is_copied_before_anything_is_downloaded(
    rig: Rig, server: WebServer
) -> None:
    older = describe(DATA[:-100], CHUNK_BYTES, "int8")
    rig.blobs.add(DATA[:-100])
    rig.fetch = rig.make(known=[older])
    rig.fetch.begin(0.0)
    rig.until_complete()
    assert server.sent_bytes == len(WIRE[-1]) == rig.fetch.bytes_fetched


def test_a_disk_that_fails_ends_the_fetch_with_its_error(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "incoming").write_bytes(b"a file where the folder should be")
    rig.fetch.begin(0.0)
    with pytest.raises(StorageError, match=f"cannot take {PACKED.size} bytes for"):
        rig.until_over()


def test_a_fetch_that_ends_stops_its_download(rig: Rig, server: WebServer) -> None:
    server.mood = "hangs"
    rig.fetch.begin(0.0)
    wait_until(lambda: bool(server.requests), "a request")
    rig.fetch.end()
    assert not rig.fetch.busy
    server.goes_on.set()


def test_a_stopped_download_writes_no_more(tmp_path: Path, server: WebServer) -> None:
    blobs = BlobStore(tmp_path)
    artefact = msgspec.structs.replace(PACKED, url=server.url)
    stopped = Download(artefact, blobs, random.Random(1))
    stopped.stop()
    stopped.start()
    wait_until(lambda: stopped.ended, "the end")
    assert blobs.missing(artefact) == list(range(ALL))
    assert server.requests == []


@given(st.sets(st.integers(0, ALL - 1), min_size=1))
def test_runs_cover_exactly_what_is_missing(missing: set[int]) -> None:
    found = runs(PACKED, sorted(missing))
    covered = [index for run in found for index in range(run.first, run.last + 1)]
    assert covered == sorted(missing)
    whole = b"".join(WIRE)
    for run in found:
        part = whole[run.start : run.start + run.size]
        assert part == b"".join(WIRE[run.first : run.last + 1])
    assert all(one.last + 1 < two.first for one, two in itertools.pairwise(found))
