"""Where the models of a node come from that follows releases: updaters, or their followers."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from shared.config import NodeConfig, PipelineConfig, ReleasesConfig
from shared.errors import ConfigError
from shared.files import read_file
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.releases.follower import Follower
from shared.releases.loading import load_release
from shared.releases.signing import Trust, load_trust
from shared.releases.updater import Updater

Source = Updater | Follower


class Sources(NamedTuple):
    """What carries the updates of a node.

    Attributes:
        by_pipeline: for each pipeline that follows a channel.
        by_topic: those that take the channel's messages, by the manifest's topic.
    """

    by_pipeline: dict[str, Source]
    by_topic: dict[str, Updater]


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
        ConfigError: a trust file holds no key, or two pipelines follow one channel.
        StorageError: a trust file cannot be read.
    """
    _check_channels(pipelines)
    sources = Sources({}, {})
    for name, pipeline in pipelines.items():
        releases = pipeline.releases
        if releases is None:
            continue
        if not leads:
            sources.by_pipeline[name] = _follower(config, pipeline, releases, threads)
            continue
        updater = Updater(
            config=releases,
            pipeline=pipeline,
            node=config.node,
            state_dir=config.state_dir,
            link=link,
            topics=config.topics,
            trust=read_trust(releases.trust),
            metrics=metrics,
            rng=random.Random(),  # noqa: S311 - jitter, not a secret
            threads=threads,
        )
        sources.by_pipeline[name] = updater
        sources.by_topic[config.topics.releases(releases.channel)] = updater
    return sources


def _check_channels(pipelines: Mapping[str, PipelineConfig]) -> None:
    channels = [each.releases.channel for each in pipelines.values() if each.releases is not None]
    for channel in channels:
        if channels.count(channel) > 1:
            raise ConfigError(
                f"two pipelines follow channel {channel}: a release is made for one. "
                "Fix: give each pipeline a channel of its own"
            )


def _follower(
    config: NodeConfig, pipeline: PipelineConfig, releases: ReleasesConfig, threads: int
) -> Follower:
    return Follower(
        config=releases,
        state_dir=config.state_dir,
        trust=read_trust(releases.trust),
        load=partial(load_release, pipeline=pipeline, threads=threads),
    )


def read_trust(path: Path) -> Trust:
    """Returns the keys in a trust file.

    Raises:
        ConfigError: it holds none.
        StorageError: it cannot be read.
    """
    return load_trust(read_file(path))
