"""What a gateway hands down from the cloud: the trust document and its channels' releases."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from pathlib import Path

from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.releases.blob_server import BlobServer
from shared.releases.clearance import Clearance
from shared.releases.shelf import Shelf
from shared.releases.trust_follower import TrustFollower
from shared.releases.trust_publication import TrustPublication
from shared.releases.trust_store import TrustStore
from shared.topics import Topics
from tier2.config import RelayConfig
from tier2.relay import ChannelRelay


class Relays:
    """Hands down.

    Args:
        trust: follows the trust document on the cloud's broker.
        trust_down: hands it down.
        channels: by the topic of their manifest.
        up_topics: of the cloud's side.
        down: the site's broker and its topics.
        server: answers the site's nodes that ask for chunks.
        shelf: the same, with what goes off the site's broker.
    """

    def __init__(
        self,
        *,
        trust: TrustFollower,
        trust_down: TrustPublication,
        channels: Mapping[str, ChannelRelay],
        up_topics: Topics,
        down: tuple[Link, Topics],
        server: BlobServer,
        shelf: Shelf,
    ) -> None:
        self._trust = trust
        self._trust_down = trust_down
        self._channels = channels
        self._up_topics = up_topics
        self._down, self._down_topics = down
        self._server = server
        self._shelf = shelf

    def start(self) -> None:
        """Reads what was handed down last, and subscribes.

        Raises:
            ConfigError: the trust file cannot be used.
            StorageError: it cannot be read, or the record of a channel.
        """
        self._trust.start()
        for channel in self._channels.values():
            channel.start()
        self._server.start()

    def on_site_connected(self, now_s: float) -> None:
        """Publishes again: a broker may have forgotten what it acknowledged."""
        self._trust_down.begin(self._trust.envelopes)
        for channel in self._channels.values():
            channel.on_site_connected(now_s)

    def take(self, link: Link, message: Message, now_s: float) -> bool:
        """Takes what the cloud hands down, and what the site asks for.

        Args:
            link: whence the message came.
            message: it.
            now_s: monotonic.

        Returns:
            Whether it is one of those.
        """
        if self._trust.on_message(message.topic, message.payload):
            return True
        if self._server.on_request(message.topic, message.payload):
            return True
        channel = self._channels.get(message.topic)
        if channel is not None:
            channel.on_manifest(message.payload, now_s)
            return True
        return self._take_chunk(link, message, now_s)

    def _take_chunk(self, link: Link, message: Message, now_s: float) -> bool:
        coming = self._up_topics.blob_chunk(message.topic)
        if coming is not None:
            for channel in self._channels.values():
                channel.on_chunk(*coming, message.payload, now_s)
        published = self._down_topics.blob_chunk(message.topic) if link is self._down else None
        if published is not None:
            for channel in self._channels.values():
                channel.on_read_back(*published, message.payload, now_s)
        return coming is not None or published is not None

    def poll(self, now_s: float) -> None:
        """Goes as far as it can."""
        self._trust.poll(now_s)
        self._trust_down.poll()
        for channel in self._channels.values():
            channel.poll(now_s)
        self._shelf.poll()

    @property
    def busy(self) -> bool:
        """Whether something goes on that wakes no socket."""
        return any(channel.busy for channel in self._channels.values())

    def close(self) -> None:
        """Ends what is under way."""
        for channel in self._channels.values():
            channel.close()


def open_relays(
    config: RelayConfig,
    state_dir: Path,
    *,
    node: str,
    up: tuple[Link, Topics],
    down: tuple[Link, Topics],
    metrics: NodeMetrics,
    rng: random.Random,
) -> Relays:
    """Returns what a gateway hands down with.

    Args:
        config: which channels, and whom to trust.
        state_dir: the node's folder.
        node: under which name chunks are asked for in the cloud; no other gateway has it.
        up: the cloud's broker and its topics.
        down: the site's broker and its topics.
        metrics: what is counted.
        rng: jitter.
    """
    channels: dict[str, ChannelRelay] = {}

    def trust_changed() -> None:
        trust_down.begin(trust.envelopes)
        for channel in channels.values():
            channel.reconcile(time.monotonic())

    trust = TrustFollower(TrustStore(config.trust, state_dir), *up, metrics, trust_changed)
    trust_down = TrustPublication(*down)
    server = BlobServer(*down, metrics.drops)
    shelf = Shelf(server, Clearance(*down))
    relays = [
        ChannelRelay(
            channel=name, node=node, folder=state_dir / "relay", trusts=trust, up=up, down=down,
            metrics=metrics, shelf=shelf, rng=rng,
        )
        for name in config.channels
    ]  # fmt: skip
    channels.update((each.manifest_topic, each) for each in relays)
    return Relays(
        trust=trust,
        trust_down=trust_down,
        channels=channels,
        up_topics=up[1],
        down=down,
        server=server,
        shelf=shelf,
    )
