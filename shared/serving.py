"""The models of a node: each serves a pipeline, from a file at first, from releases ever after."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from shared.config import ModelConfig, NodeConfig, PipelineConfig, ReleasesConfig
from shared.errors import ArtefactError, ConfigError, StorageError
from shared.metrics import NodeMetrics
from shared.model import Model, cpu_quota
from shared.model_spec import Calibration, ModelSpec
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.presence import Presence
from shared.releases.follower import Follower
from shared.releases.loading import load_release
from shared.releases.signing import Trust, load_trust
from shared.releases.updater import Updater
from shared.slot import Slot
from shared.topics import Topics
from shared.workers.worker import ALONE, Worker


class NodeModels:
    """All slots of a node with their updates.

    Args:
        config: the node.
        pipelines: its pipelines' configurations, by name.
        slots: by pipeline.
        link: the site's broker, where releases come from.
        metrics: what is counted.
        presence: tells which models serve.
        worker: which of the node's processes this is. Worker 0 carries the updates, the others
            follow it.

    Raises:
        ConfigError: a trust file holds no key, or two pipelines follow one channel.
        StorageError: a trust file cannot be read.
    """

    def __init__(
        self,
        *,
        config: NodeConfig,
        pipelines: Mapping[str, PipelineConfig],
        slots: Mapping[str, Slot],
        link: Link,
        metrics: NodeMetrics,
        presence: Presence,
        worker: Worker = ALONE,
    ) -> None:
        self._config = config
        self._pipelines = pipelines
        self._slots = slots
        self._link = link
        self._topics: Topics = config.topics
        self._metrics = metrics
        self._presence = presence
        self._threads = worker.threads(cpu_quota())
        _check_channels(pipelines)
        followed = {
            name: (pipeline, pipeline.releases)
            for name, pipeline in pipelines.items()
            if pipeline.releases is not None
        }
        make = self._make_updater if worker.leads else self._make_follower
        self._sources: dict[str, Updater | Follower] = {
            name: make(*configs) for name, configs in followed.items()
        }
        self._by_topic = {
            self._topics.releases(followed[name][1].channel): source
            for name, source in self._sources.items()
            if isinstance(source, Updater)
        }

    def start(self) -> None:
        """Puts into each slot the committed release, else the configured file, if there is one.

        Raises:
            ArtefactError: there is no release and the file cannot serve.
        """
        for name, pipeline in self._pipelines.items():
            model, source = None, self._sources.get(name)
            if source is not None:
                source.start()
                model = source.serving
            if model is None and pipeline.model is not None:
                model = load_local(name, pipeline.model, pipeline, self._threads)
                if source is not None:
                    source.begin_with(model)
            self._slots[name].put(model)

    def on_connected(self, now_s: float) -> None:
        """Says what serves, and reconciles with what is retained."""
        self.announce()
        for updater in self._by_topic.values():
            updater.on_connected(now_s)

    def take(self, message: Message, now_s: float) -> bool:
        """Takes a manifest or a chunk; returns False if the message is neither."""
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
        """Carries updates on; a model that is ready serves from the next batch on."""
        for name, source in self._sources.items():
            slot = self._slots[name]
            source.poll(slot.health, now_s)
            if source.serving is not slot.model:
                slot.put(source.serving)
                self.announce()

    def announce(self) -> None:
        """Says what the node is and what serves."""
        serving = {
            name: slot.model.spec for name, slot in self._slots.items() if slot.model is not None
        }
        self._presence.announce(self._link, serving)

    @property
    def busy(self) -> bool:
        """Whether an update is under way."""
        return any(source.busy for source in self._sources.values())

    def close(self) -> None:
        """Ends updates under way."""
        for source in self._sources.values():
            source.close()

    def _make_updater(self, pipeline: PipelineConfig, releases: ReleasesConfig) -> Updater:
        return Updater(
            config=releases,
            pipeline=pipeline,
            node=self._config.node,
            state_dir=self._config.state_dir,
            link=self._link,
            topics=self._topics,
            trust=read_trust(releases.trust),
            metrics=self._metrics,
            rng=random.Random(),  # noqa: S311 - jitter, not a secret
            threads=self._threads,
        )

    def _make_follower(self, pipeline: PipelineConfig, releases: ReleasesConfig) -> Follower:
        return Follower(
            config=releases,
            state_dir=self._config.state_dir,
            trust=read_trust(releases.trust),
            load=partial(load_release, pipeline=pipeline, threads=self._threads),
        )


def _check_channels(pipelines: Mapping[str, PipelineConfig]) -> None:
    channels = [each.releases.channel for each in pipelines.values() if each.releases is not None]
    for channel in channels:
        if channels.count(channel) > 1:
            raise ConfigError(
                f"two pipelines follow channel {channel}: a release is made for one. "
                "Fix: give each pipeline a channel of its own"
            )


def load_local(
    name: str, config: ModelConfig, pipeline: PipelineConfig, threads: int | None = None
) -> Model:
    """Loads the model that a configuration names.

    Args:
        name: the pipeline.
        config: the file and what it holds.
        pipeline: what the model must fit.
        threads: that it may run; None for all that are worth having.

    Raises:
        ArtefactError: it cannot be read, does not load or does not fit.
    """
    try:
        digest = hashlib.sha256(read_file(config.path)).hexdigest()
    except StorageError as error:
        raise ArtefactError(str(error)) from error
    spec = ModelSpec(
        name=name,
        version=config.version,
        sha256=digest,
        labels=config.labels or (),
        scores=config.scores,
        calibration=Calibration(config.temperature, config.threshold, score=config.score),
        output=config.output,
    )
    size = pipeline.batching.max_batch_size
    return Model.load(config.path, spec, pipeline.layout, size, threads)


def read_file(path: Path) -> bytes:
    """Returns a file's bytes.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def read_trust(path: Path) -> Trust:
    """Returns the keys in a trust file.

    Raises:
        ConfigError: it holds none.
        StorageError: it cannot be read.
    """
    return load_trust(read_file(path))
