"""Telemetry through a broker into a cloud process's SQLite store, and acknowledged."""

from __future__ import annotations

import itertools
import select
import time
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any

import yaml

from bench import nodes, packets
from bench.connection import Connection
from bench.errors import BenchError
from bench.processes import Child
from bench.scenario import Figure, Outcome, Plan, Say
from bench.stand import PREFIX, Stand
from bench.telemetry import FEATURES, LABELS, RECORDS, TelemetryFeed
from shared.messages import TelemetryAck, pack, unpack
from shared.topics import Topics

SENDERS = 4
UNCONFIRMED = 8
"""Messages of a sender under way: tier-2's window."""
WARM_UP = 10
STALLED_S = 60.0
READY_TIMEOUT_S = 30.0
PROBE_PAUSE_S = 0.2
QUIET_S = 1.0
SITE = "plant"


def ingestion(stand: Stand, plan: Plan, say: Say) -> Outcome:
    """Four sites' gateways send as much as is confirmed; the process is one of the ingestion."""
    rates: list[float] = []
    cpu_us: list[float] = []
    memory_mib: list[float] = []
    topics = Topics(PREFIX, SITE)
    senders = [_Sender(stand.broker.port, topics, f"hub-{place}") for place in range(SENDERS)]
    cloud = _cloud(stand)
    with ExitStack() as stack:
        stack.callback(cloud.stop)
        cloud.start()
        for sender in senders:
            stack.enter_context(sender.connection)
            sender.connection.subscribe(topics.telemetry_acks(sender.name), 0)
        _await(senders[0], cloud)
        _send(senders, WARM_UP, cloud)
        for number in range(1, plan.rounds + 1):
            for sender in senders:
                sender.prepare(plan.telemetry_messages)
            busy_s = cloud.cpu_s
            took_s = _send(senders, plan.telemetry_messages, cloud)
            samples = SENDERS * plan.telemetry_messages * RECORDS
            rates.append(samples / took_s / 1000)
            cpu_us.append((cloud.cpu_s - busy_s) / samples * 1e6)
            memory_mib.append(cloud.rss_mib)
            say(
                f"ingestion {number}/{plan.rounds}: {rates[-1]:.1f} k samples/s, "
                f"{cpu_us[-1]:.0f} CPU µs a sample, {memory_mib[-1]:.0f} MiB"
            )
    values = {
        "k samples/s": median(rates),
        "CPU µs/sample": median(cpu_us),
        "memory MiB": median(memory_mib),
    }
    note = f"messages of {RECORDS} records of {FEATURES} float32, through the broker, confirmed"
    return Outcome(
        {"ingestion": rates},
        [Figure("telemetry into SQLite", "ours, one process", values)],
        {"ingestion": note},
    )


class _Sender:
    """A gateway: sends messages, at most so many unconfirmed."""

    def __init__(self, port: int, topics: Topics, name: str) -> None:
        self.name = name
        self.connection = Connection(port, f"bench-{name}")
        self.unconfirmed = self.confirmed = 0
        self._topic = topics.telemetry(name)
        self._feed = TelemetryFeed(name)
        self._packets: list[bytes] = []
        self._mids = itertools.cycle(range(1, packets.MAX_PACKET_ID))
        self._arrived = bytearray()

    def prepare(self, count: int) -> None:
        """Makes packets beforehand: making them is no part of what is measured."""
        for message in self._feed.messages(count - len(self._packets)):
            payload = pack(message)
            head = packets.publish_head(self._topic, 1, len(payload))
            self._packets.append(head + next(self._mids).to_bytes(2, "big") + payload)

    @property
    def done(self) -> bool:
        return not self._packets and not self.unconfirmed

    def send(self) -> None:
        """Sends as much as may be under way."""
        while self._packets and self.unconfirmed < UNCONFIRMED:
            self.connection.send(self._packets.pop())
            self.unconfirmed += 1

    def receive(self) -> None:
        """Counts what is confirmed."""
        self._arrived += self.connection.receive()
        found, size = packets.frames(self._arrived)
        for frame in found:
            if frame.first & 0xF0 == packets.PUBLISH:
                topic_bytes = int.from_bytes(self._arrived[frame.body : frame.body + 2], "big")
                payload = bytes(self._arrived[frame.body + 2 + topic_bytes : frame.end])
                count = len(unpack(payload, TelemetryAck).batches)
                self.unconfirmed -= count
                self.confirmed += count
        del self._arrived[:size]


def _await(sender: _Sender, cloud: Child) -> None:
    """Sends messages until one is confirmed: what comes before anybody has subscribed is lost."""
    ends_s = time.perf_counter() + READY_TIMEOUT_S
    first = sender.confirmed
    while sender.confirmed == first:
        if time.perf_counter() > ends_s:
            raise BenchError(f"the cloud confirms nothing{cloud.last_words()}")
        cloud.check()
        sender.prepare(1)
        sender.send()
        select.select([sender.connection], (), (), PROBE_PAUSE_S)
        sender.receive()
        sender.unconfirmed = 0
    while select.select([sender.connection], (), (), QUIET_S)[0]:
        sender.receive()
    sender.unconfirmed = 0


def _send(senders: Sequence[_Sender], count: int, cloud: Child) -> float:
    """Has each sender send so many messages; returns how long it took until all were confirmed."""
    for sender in senders:
        sender.prepare(count)
    began_s = progress_s = time.perf_counter()
    while not all(sender.done for sender in senders):
        for sender in senders:
            sender.send()
        links = [sender.connection for sender in senders]
        writers = [link for link in links if link.unsent_bytes]
        readable, writable, _ = select.select(links, writers, (), 0.1)
        for link in writable:
            link.flush()
        for sender in senders:
            if sender.connection in readable:
                sender.receive()
                progress_s = time.perf_counter()
        cloud.check()
        if time.perf_counter() - progress_s > STALLED_S:
            raise BenchError(f"telemetry is not confirmed{cloud.last_words()}")
    return time.perf_counter() - began_s


def _cloud(stand: Stand) -> Child:
    name = "ingest"
    state = stand.folder / "state" / name
    pipeline: dict[str, Any] = {
        "input": {"shape": [FEATURES]},
        "labels": list(LABELS),
        "tier1_channel": "p64",
        "tier2_channel": "p64-2",
    }
    config = nodes.node(
        "cloud", name, prefix=PREFIX, site="cloud", broker_url=stand.broker.url, state=state
    )
    store = {"url": f"sqlite:///{stand.folder / 'telemetry.sqlite'}"}
    config |= {"duty": "ingest", "store": store, "pipelines": {"meter": pipeline}}
    path = stand.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return Child(name, ("cloud", str(path)), stand.folder, stand.cpus)
