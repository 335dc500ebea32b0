"""The models of a node: each serves a pipeline, from a file at first, from releases ever after."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from shared.config import ModelConfig, NodeConfig, PipelineConfig
from shared.errors import ArtefactError, StorageError
from shared.files import read_file
from shared.metrics import NodeMetrics
from shared.model import Model, cpu_quota
from shared.model_spec import Calibration, ModelSpec
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.presence import Presence
from shared.slot import Slot
from shared.workers.worker import ALONE, Worker

if TYPE_CHECKING:
    from shared.releases.sources import Sources


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
        ConfigError: two pipelines follow one channel, or name different trust files.
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
        self._pipelines = pipelines
        self._slots = slots
        self._link = link
        self._presence = presence
        self._said = 0
        self._threads = worker.threads(cpu_quota())
        followed = [each.releases.channel for each in pipelines.values() if each.releases]
        presence.channels = tuple(sorted(followed))
        self._sources: Sources | None = None
        if any(pipeline.releases is not None for pipeline in pipelines.values()):
            # Imported where there are releases: a node without them spares 8 MiB.
            from shared.releases.sources import open_sources  # noqa: PLC0415

            self._sources = open_sources(
                config, pipelines, link, metrics, leads=worker.leads, threads=self._threads
            )

    def start(self) -> None:
        """Puts into each slot the committed release, else the configured file, if there is one.

        Raises:
            ArtefactError: there is no release and the file cannot serve.
            ConfigError: the trust file cannot be used.
            StorageError: it cannot be read, or the record of a channel.
        """
        sources = {} if self._sources is None else self._sources.by_pipeline
        if self._sources is not None:
            self._sources.start()
        for name, pipeline in self._pipelines.items():
            source = sources.get(name)
            model = None if source is None else source.serving
            if model is None and pipeline.model is not None:
                model = load_local(name, pipeline.model, pipeline, self._threads)
                if source is not None:
                    source.begin_with(model)
            self._slots[name].put(model)
            if source is not None:
                self._slots[name].mark(source.void)

    def on_connected(self, now_s: float) -> None:
        """Says what serves, and reconciles with what is retained."""
        self.announce()
        if self._sources is not None:
            self._sources.on_connected(now_s)

    def take(self, message: Message, now_s: float) -> bool:
        """Takes what belongs to releases; returns False if the message does not."""
        return self._sources is not None and self._sources.take(message, now_s)

    def poll(self, now_s: float) -> None:
        """Carries updates on; a model that is ready serves from the next batch on."""
        if self._sources is not None:
            self._sources.poll(now_s)
            for name, source in self._sources.by_pipeline.items():
                slot = self._slots[name]
                source.poll(slot.health, now_s)
                if source.serving is not slot.model:
                    slot.put(source.serving)
                slot.mark(source.void)
        if self._said != self._changes:
            self.announce()

    def announce(self) -> None:
        """Says what the node is and what serves."""
        self._said = self._changes
        infos = {name: slot.info for name, slot in self._slots.items()}
        serving = {name: info for name, info in infos.items() if info is not None}
        self._presence.announce(self._link, serving)

    @property
    def _changes(self) -> int:
        return sum(slot.changes for slot in self._slots.values())

    @property
    def busy(self) -> bool:
        """Whether an update is under way."""
        return self._sources is not None and self._sources.busy

    def farewell(self) -> None:
        """Notes that the node stops on purpose."""
        if self._sources is not None:
            self._sources.farewell()

    def close(self) -> None:
        """Ends updates under way."""
        if self._sources is not None:
            self._sources.close()


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
