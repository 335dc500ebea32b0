"""The models of a node: each serves a pipeline, from a file at first, from releases ever after."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path

from shared.config import ModelConfig, NodeConfig, PipelineConfig
from shared.errors import ArtefactError, ConfigError, StorageError
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.model_spec import Calibration, ModelSpec
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.presence import Presence
from shared.releases.signing import Trust, load_trust
from shared.releases.updater import Updater
from shared.slot import Slot
from shared.topics import Topics


class NodeModels:
    """All slots of a node with their updates.

    Args:
        config: the node.
        pipelines: its pipelines' configurations, by name.
        slots: by pipeline.
        link: the site's broker, where releases come from.
        metrics: what is counted.
        presence: tells which models serve.

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
    ) -> None:
        self._pipelines = pipelines
        self._slots = slots
        self._link = link
        self._topics: Topics = config.topics
        self._presence = presence
        self._updaters: dict[str, Updater] = {}
        self._by_topic: dict[str, Updater] = {}
        for name, pipeline in pipelines.items():
            if pipeline.releases is not None:
                topic = self._topics.releases(pipeline.releases.channel)
                if topic in self._by_topic:
                    raise ConfigError(
                        f"two pipelines follow channel {pipeline.releases.channel}: a release is "
                        "made for one. Fix: give each pipeline a channel of its own"
                    )
                updater = Updater(
                    config=pipeline.releases,
                    pipeline=pipeline,
                    node=config.node,
                    state_dir=config.state_dir,
                    link=link,
                    topics=self._topics,
                    trust=read_trust(pipeline.releases.trust),
                    metrics=metrics,
                    rng=random.Random(),  # noqa: S311 - jitter, not a secret
                )
                self._updaters[name] = updater
                self._by_topic[topic] = updater

    def start(self) -> None:
        """Puts into each slot the committed release, else the configured file, if there is one.

        Raises:
            ArtefactError: there is no release and the file cannot serve.
        """
        for name, pipeline in self._pipelines.items():
            model, updater = None, self._updaters.get(name)
            if updater is not None:
                updater.start()
                model = updater.serving
            if model is None and pipeline.model is not None:
                model = load_local(name, pipeline.model, pipeline)
                if updater is not None:
                    updater.begin_with(model)
            self._slots[name].put(model)

    def on_connected(self, now_s: float) -> None:
        """Says what serves, and reconciles with what is retained."""
        self._announce()
        for updater in self._updaters.values():
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
        for updater in self._updaters.values():
            updater.on_chunk(*chunk, message.payload, now_s)
        return True

    def poll(self, now_s: float) -> None:
        """Carries updates on; a model that is ready serves from the next batch on."""
        for name, updater in self._updaters.items():
            slot = self._slots[name]
            updater.poll(slot.health, now_s)
            if updater.serving is not slot.model:
                slot.put(updater.serving)
                self._announce()

    @property
    def busy(self) -> bool:
        """Whether an update is under way."""
        return any(updater.busy for updater in self._updaters.values())

    def close(self) -> None:
        """Ends updates under way."""
        for updater in self._updaters.values():
            updater.close()

    def _announce(self) -> None:
        serving = {
            name: slot.model.spec for name, slot in self._slots.items() if slot.model is not None
        }
        self._presence.announce(self._link, serving)


def load_local(name: str, config: ModelConfig, pipeline: PipelineConfig) -> Model:
    """Loads the model that a configuration names.

    Args:
        name: the pipeline.
        config: the file and what it holds.
        pipeline: what the model must fit.

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
    return Model.load(config.path, spec, pipeline.layout, pipeline.batching.max_batch_size)


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
