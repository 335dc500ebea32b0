"""Where the models of a node come from that follows releases: updaters, or their followers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from shared.config import NodeConfig, PipelineConfig, ReleasesConfig
from shared.errors import ConfigError
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.releases.follower import Follower
from shared.releases.loading import load_release
from shared.releases.place import Place
from shared.releases.trust_follower import TrustFollower
from shared.releases.trust_store import TrustStore
from shared.releases.updater import Updater
from shared.topics import Topics

Source = Updater | Follower
Followed = Mapping[str, tuple[PipelineConfig, ReleasesConfig]]


class Sources:
    """What carries the updates of a node.

    Args:
        topics: of the node's site.
        by_pipeline: for each pipeline that follows a channel.
        by_topic: those that take the channel's messages, by the manifest's topic.
        trust: follows the trust document; None where another process does.
    """

    def __init__(
        self,
        topics: Topics,
        by_pipeline: Mapping[str, Source],
        by_topic: Mapping[str, Updater],
        trust: TrustFollower | None,
    ) -> None:
        self.by_pipeline = by_pipeline
        self._topics = topics
        self._by_topic = by_topic
        self._trust = trust

    def start(self) -> None:
        """Reads whom to trust, and loads what was committed.

        Raises:
            ConfigError: the trust file cannot be used.
            StorageError: it cannot be read, or a record.
        """
        if self._trust is not None:
            self._trust.start()
        for source in self.by_pipeline.values():
            source.start()

    def on_connected(self, now_s: float) -> None:
        """Reconciles with what is retained."""
        for updater in self._by_topic.values():
            updater.on_connected(now_s)

    def take(self, message: Message, now_s: float) -> bool:
        """Takes a manifest, a chunk or a trust document; returns whether it is one of them."""
        if self._trust is not None and self._trust.on_message(message.topic, message.payload):
            return True
        updater = self._by_topic.get(message.topic)
        if updater is not None:
            updater.on_manifest(message.payload, now_s)
            return True
        chunk = self._topics.blob_chunk(message.topic)
        if chunk is None:
            return False
        for updater in self._by_topic.values():
            updater.on_chunk(*chunk, message.payload, now_s)
        return True

    def poll(self, now_s: float) -> None:
        """Now and then looks whether a trust document was missed."""
        if self._trust is not None:
            self._trust.poll(now_s)

    @property
    def busy(self) -> bool:
        """Whether an update is under way."""
        return any(source.busy for source in self.by_pipeline.values())

    def farewell(self) -> None:
        """Notes that the node stops on purpose."""
        for updater in self._by_topic.values():
            updater.farewell()

    def close(self) -> None:
        """Ends updates under way."""
        for source in self.by_pipeline.values():
            source.close()


def open_sources(
    config: NodeConfig,
    pipelines: Mapping[str, PipelineConfig],
    link: Link,
    metrics: NodeMetrics,
    *,
    leads: bool,
    threads: int,
) -> Sources:
    """Returns what carries the updates of each pipeline that follows a channel.

    Args:
        config: the node.
        pipelines: its pipelines' configurations, by name.
        link: the site's broker, where releases come from.
        metrics: what is counted.
        leads: whether this process carries the updates, or follows the one that does.
        threads: that a model may run.

    Raises:
        ConfigError: two pipelines follow one channel, or name different trust files.
    """
    followed = {
        name: (pipeline, pipeline.releases)
        for name, pipeline in pipelines.items()
        if pipeline.releases is not None
    }
    _check_channels([releases for _, releases in followed.values()])
    if leads:
        return _leading(config, followed, link, metrics, threads=threads)
    followers = {
        name: _follower(config, pipeline, releases, threads)
        for name, (pipeline, releases) in followed.items()
    }
    return Sources(config.topics, followers, {}, None)


def _leading(
    config: NodeConfig, followed: Followed, link: Link, metrics: NodeMetrics, *, threads: int
) -> Sources:
    """Returns the updaters of all channels, and what follows the trust document for them."""
    updaters: dict[str, Updater] = {}

    def look_again() -> None:
        for updater in updaters.values():
            updater.reconcile(time.monotonic())

    store = TrustStore(_trust_file(releases for _, releases in followed.values()), config.state_dir)
    trust = TrustFollower(store, link, config.topics, metrics, look_again)
    for name, (pipeline, releases) in followed.items():
        updaters[name] = Updater(
            config=releases,
            pipeline=pipeline,
            place=Place(config.node, name, config.state_dir, link, config.topics, threads),
            trusts=trust,
            metrics=metrics,
            rng=random.Random(),  # noqa: S311 - jitter, not a secret
        )
    by_topic = {
        config.topics.releases(releases.channel): updaters[name]
        for name, (_, releases) in followed.items()
    }
    return Sources(config.topics, updaters, by_topic, trust)


def _check_channels(followed: Iterable[ReleasesConfig]) -> None:
    channels = [each.channel for each in followed]
    for channel in channels:
        if channels.count(channel) > 1:
            raise ConfigError(
                f"two pipelines follow channel {channel}: a release is made for one. "
                "Fix: give each pipeline a channel of its own"
            )


def _trust_file(followed: Iterable[ReleasesConfig]) -> Path:
    first, *others = [each.trust for each in followed]
    for other in others:
        if other != first:
            raise ConfigError(
                f"two pipelines name different trust files, {first} and {other}. "
                "Fix: a node has one owner; name one file"
            )
    return first


def _follower(
    config: NodeConfig, pipeline: PipelineConfig, releases: ReleasesConfig, threads: int
) -> Follower:
    return Follower(
        config=releases,
        state_dir=config.state_dir,
        load=partial(load_release, pipeline=pipeline, threads=threads),
    )
