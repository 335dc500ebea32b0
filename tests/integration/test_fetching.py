"""Models arrive whole over a real broker, though the link is cut again and again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from prometheus_client import CollectorRegistry

from escalon.demo.broker import BrokerProcess, open_broker
from escalon.demo.broker_programs import find_mosquitto
from shared.config import BrokerConfig
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link, wait_for_any
from shared.mqtt.message import Message
from shared.releases.artefact import MAX_CHUNK_BYTES, Artefact
from shared.releases.blob_server import BlobServer
from shared.releases.blobs import BlobStore, describe
from shared.releases.fetch import Fetch
from shared.releases.publication import Publication
from shared.releases.window import WINDOW
from shared.topics import Topics
from tests.cutting_proxy import CuttingProxy
from tests.fakes import wait_until

TOPICS = Topics("escalon", "site-a")
CUTS = 20


@pytest.fixture(scope="module")
def broker(
    tmp_path_factory: pytest.TempPathFactory, require_mosquitto: None
) -> Iterator[BrokerProcess]:
    running = open_broker(tmp_path_factory.mktemp("mosquitto"), "mosquitto")
    running.start()
    yield running
    running.stop()


class Party:
    """A link with a clock of its own: where it waits for its next attempt, the wait is over."""

    def __init__(
        self,
        url: str,
        name: str,
        take: Callable[[Message, float], None],
        protocol: Literal["3.1.1", "5"] = "3.1.1",
    ) -> None:
        self.now_s = 1000.0
        config = BrokerConfig(url=url, protocol=protocol)
        self.link = Link(config, name, persistent=False, will=None, rng=random.Random(1))
        self._take = take

    def turn(self) -> None:
        wait_for_any([self.link], 0.001)
        for message in self.link.receive():
            self._take(message, self.now_s)
            self.link.done(message)
        self.link.flush()
        self.link.tend(self.now_s)
        away = self.link.socket() is None and not self.link.connecting
        self.now_s += 1.0 if away else 0.001


class Bench:
    """A sender at the broker, and a node behind a proxy that cuts."""

    def __init__(self, stack: ExitStack, broker: BrokerProcess, folder: Path, data: bytes) -> None:
        self.data = data
        self.metrics = NodeMetrics(CollectorRegistry())
        self.proxy = stack.enter_context(CuttingProxy(broker.port))
        self.sender = Party(broker.url, "sender", self.on_sender)
        self.node = Party(self.proxy.url, "press-1", self.on_node)
        for party in (self.sender, self.node):
            stack.callback(party.link.close)
        self.store = BlobStore(folder / "sender")
        self.blobs = BlobStore(folder / "node")
        self.server = BlobServer(self.sender.link, TOPICS, self.metrics.drops)
        self.publication: Publication | None = None
        self.fetch: Fetch | None = None
        self.came: Counter[int] = Counter()
        self.cuts = self.cut_session = 0
        self.cut_every = len(data) // MAX_CHUNK_BYTES // (CUTS + 1)
        self.until(lambda: self.sender.link.connected and self.node.link.connected, "links")

    def on_sender(self, message: Message, now_s: float) -> None:
        if not self.server.on_request(message.topic, message.payload):
            chunk = TOPICS.blob_chunk(message.topic)
            assert chunk is not None
            assert self.publication is not None
            self.publication.on_chunk(*chunk, message.payload, now_s)

    def on_node(self, message: Message, now_s: float) -> None:
        chunk = TOPICS.blob_chunk(message.topic)
        assert chunk is not None
        assert self.fetch is not None
        if self.cut_session == self.node.link.session:
            return  # lost with the link
        self.came[chunk[1]] += 1
        self.fetch.on_chunk(chunk[1], message.payload, now_s)
        if self.cuts < CUTS and self.fetch.chunks_done >= (self.cuts + 1) * self.cut_every:
            self.cut_session = self.node.link.session
            self.cuts += 1
            self.proxy.cut()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def holds() -> bool:
            for _ in range(20):
                self.turn()
                if condition():
                    return True
            return False

        wait_until(holds, what)

    def turn(self) -> None:
        self.sender.turn()
        self.server.poll()
        if self.publication is not None:
            self.publication.poll(self.sender.now_s)
        self.node.turn()
        if self.fetch is not None:
            self.fetch.poll(self.node.now_s)

    def publish(self, artefact: Artefact) -> None:
        self.store.add(self.data, artefact)
        self.publication = Publication(
            channel="meter-tier1", name="seq 1", envelope=b"signed", artefacts=(artefact,),
            blobs=self.store, link=self.sender.link, topics=TOPICS,
        )  # fmt: skip
        self.publication.begin(self.sender.now_s)
        self.until(lambda: self.publication is not None and self.publication.published, "it all")

    def fetch_through_cuts(self, artefact: Artefact) -> Fetch:
        fetch = self.fetch = Fetch(
            artefact, self.blobs, self.node.link, TOPICS, self.metrics,
            node="press-1", rng=random.Random(1),
        )  # fmt: skip
        fetch.begin(self.node.now_s)
        self.until(lambda: fetch.complete, "the whole model")
        assert self.cuts == CUTS
        self.blobs.assemble(artefact)
        assert self.blobs.path(artefact.sha256).read_bytes() == self.data
        return fetch

    def drops(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("edge_drops_total", {"reason": reason}) or 0.0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize("form", ["plain", "packed"])
def test_8_mib_that_are_retained_arrive_though_the_link_is_cut_20_times(
    stack: ExitStack, broker: BrokerProcess, tmp_path: Path, form: str
) -> None:
    data = random.Random(form).randbytes(2**23)
    if form == "packed":
        data = data.translate(bytes(each & 0x3F for each in range(256)))
    artefact = describe(data, MAX_CHUNK_BYTES, "int8")
    assert (artefact.delivery, artefact.encoding == "zstd") == ("retained", form == "packed")
    bench = Bench(stack, broker, tmp_path, data)
    bench.publish(artefact)
    fetch = bench.fetch_through_cuts(artefact)
    chunks = len(artefact.chunks)
    assert fetch.bytes_fetched == artefact.wire_total
    assert set(bench.came) == set(range(chunks))
    assert sum(bench.came.values()) <= 1.1 * chunks
    assert bench.drops("bad_chunk") == 0


def test_12_mib_that_are_pulled_arrive_though_the_link_is_cut_20_times(
    stack: ExitStack, broker: BrokerProcess, tmp_path: Path
) -> None:
    data = random.Random(2).randbytes(12 * 2**20)
    artefact = describe(data, MAX_CHUNK_BYTES, "fp32")
    assert artefact.delivery == "pull"
    bench = Bench(stack, broker, tmp_path, data)
    bench.server.start()
    bench.server.offer(artefact, bench.store)
    bench.publish(artefact)
    fetch = bench.fetch_through_cuts(artefact)
    chunks = len(artefact.chunks)
    assert fetch.bytes_fetched == artefact.wire_total
    # What was on its way at a cut is lost and asked for again; what came is not.
    assert sum(bench.came.values()) <= chunks + CUTS * WINDOW
    assert sum(bench.came.values()) - bench.drops("repeated_chunk") == chunks


def test_a_reader_who_comes_later_finds_nothing_of_what_is_pulled(
    stack: ExitStack, broker: BrokerProcess, tmp_path: Path
) -> None:
    data = random.Random(3).randbytes(2**18)
    artefact = describe(data, MAX_CHUNK_BYTES, "fp32", pull_above_bytes=0)
    bench = Bench(stack, broker, tmp_path, data)
    bench.publish(artefact)
    seen: list[Message] = []
    late = Party(broker.url, "late", lambda message, _: seen.append(message))
    stack.callback(late.link.close)
    late.link.subscribe(f"{TOPICS.prefix}/{TOPICS.site}/#", 0)

    def manifest_came() -> bool:
        late.turn()
        return any(message.payload == b"signed" for message in seen)

    wait_until(manifest_came, "the manifest")
    assert not any(artefact.sha256 in message.topic for message in seen)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_broker_that_acknowledges_chunks_and_drops_them_gets_no_manifest(
    tmp_path: Path, stack: ExitStack, require_mosquitto: None, protocol: Literal["3.1.1", "5"]
) -> None:
    mosquitto = find_mosquitto()
    assert mosquitto is not None
    # What an access list forbids, Mosquitto acknowledges all the same.
    (tmp_path / "acl").write_text("topic readwrite escalon/site-a/releases/#\n")

    def command(folder: Path, port: int) -> list[str]:
        plain = mosquitto.command(folder, port)
        with Path(plain[-1]).open("a") as config:
            config.write(f"acl_file {tmp_path / 'acl'}\n")
        return plain

    strict = BrokerProcess(tmp_path / "strict", replace(mosquitto, command=command))
    strict.start()
    stack.callback(strict.stop)
    blobs = BlobStore(tmp_path / "blobs")
    data = random.Random(4).randbytes(3 * MAX_CHUNK_BYTES)
    blobs.add(data)
    sender = Party(strict.url, "sender", lambda message, now_s: None, protocol)
    stack.callback(sender.link.close)
    publication = Publication(
        channel="meter-tier1", name="seq 1", envelope=b"signed",
        artefacts=(describe(data, MAX_CHUNK_BYTES, "fp32"),),
        blobs=blobs, link=sender.link, topics=TOPICS,
    )  # fmt: skip

    def connected() -> bool:
        sender.turn()
        return sender.link.connected

    def found_out() -> bool:
        sender.turn()
        sender.now_s += 0.5
        publication.poll(sender.now_s)
        return publication.trouble != ""

    wait_until(connected, "a link")
    publication.begin(sender.now_s)
    wait_until(found_out, "the trouble")
    assert "acknowledged 3 chunks of meter-tier1 and has not kept them" in publication.trouble
    assert not publication.published
