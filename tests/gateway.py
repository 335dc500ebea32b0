"""A gateway's part that hands releases down, without the node: between two brokers in memory."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from shared.metrics import NodeMetrics
from shared.releases.blobs import chunked
from shared.releases.manifest import Manifest
from shared.releases.packing import pack_chunk
from shared.topics import Topics
from tests.builders import CHANNEL
from tests.fakes import FakeBroker, FakeLink
from tier2.config import RelayConfig
from tier2.relays import open_relays

UP, DOWN = Topics("escalon", "cloud"), Topics("escalon", "site-a")
NAME = "site-a.gateway"


class CountedLink(FakeLink):
    """Counts what goes over it.

    Attributes:
        taken: topic and bytes of each message that came, in order.
        sent: topic and bytes of each that went.
    """

    def __init__(self, hub: FakeBroker, **changes: Any) -> None:
        self.taken: list[tuple[str, int]] = []
        self.sent: list[tuple[str, int]] = []
        super().__init__(hub, **changes)

    def deliver(self, topic: str, payload: bytes, mid: int, *, dup: bool, retain: bool) -> None:
        """Takes a message from the broker."""
        self.taken.append((topic, len(payload)))
        super().deliver(topic, payload, mid, dup=dup, retain=retain)

    def publish(self, topic: str, payload: bytes, **changes: Any) -> bool:
        """Hands a message to the broker."""
        taken = super().publish(topic, payload, **changes)
        if taken:
            self.sent.append((topic, len(payload)))
        return taken


class Gateway:
    """Hands the releases of one channel down from the cloud's broker to the site's.

    Args:
        folder: the node's; ``trust.signed`` lies in it.
        cloud: the cloud's broker.
        site: the site's.
    """

    def __init__(self, folder: Path, cloud: FakeBroker, site: FakeBroker) -> None:
        self.now_s = 1000.0
        self.up, self.down = CountedLink(cloud), CountedLink(site)
        self.relays = open_relays(
            RelayConfig(channels=(CHANNEL,), trust=folder / "trust.signed"),
            folder,
            node=NAME,
            up=(self.up, UP),
            down=(self.down, DOWN),
            metrics=NodeMetrics(CollectorRegistry()),
            rng=random.Random(1),
        )

    def start(self) -> None:
        self.relays.start()
        self.relays.on_site_connected(self.now_s)

    def turn(self) -> bool:
        """One turn of the node's loop; returns whether anything went on in it."""
        sent = len(self.down.sent)
        came = False
        for link in (self.up, self.down):
            for message in link.receive():
                came = True
                self.relays.take(link, message, self.now_s)
                link.done(message)
        self.relays.poll(self.now_s)
        return came or len(self.down.sent) > sent or self.relays.busy

    def run(self) -> None:
        """Takes turns until nothing goes on any more."""
        idle_turns = 0
        while idle_turns < 2:  # what is subscribed in one turn comes in the next
            idle_turns = 0 if self.turn() else idle_turns + 1


def retain_files(hub: FakeBroker, topics: Topics, described: Manifest, *files: bytes) -> None:
    """Has a broker keep the chunks of a release's files."""
    for artefact, data in zip(described.release.artefacts, files, strict=True):
        for index, part in enumerate(chunked(data, artefact.chunk_bytes)):
            travels = pack_chunk(part) if artefact.is_packed(index) else part
            hub.publish(topics.blob(artefact.sha256, index), travels, retain=True)
