"""A tier-2 node: joins its pipelines, its uplink and its relays to the two brokers."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from shared.errors import PayloadError, StorageError
from shared.link import Link, Message
from shared.messages import Escalation, pack, unpack
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.presence import Presence
from shared.releases.updater import Health, Updater
from shared.runtime import BUSY_WAIT_S, IDLE_WAIT_S
from shared.serving import first_model, make_updater, read_trust
from shared.spool import Spool, SpoolLimits
from shared.topics import CLOUD_SITE, Topics
from tier2.config import Tier2Config, Tier2PipelineConfig
from tier2.pipeline import Tier2Pipeline
from tier2.relay import ChannelRelay
from tier2.telemetry import Uplink

log = logging.getLogger(__name__)


class Lane:
    """One pipeline with its updates.

    Args:
        pipeline: the data path.
        config: its configuration.
        updater: follows the pipeline's channel, if it has one.
    """

    def __init__(
        self, pipeline: Tier2Pipeline, config: Tier2PipelineConfig, updater: Updater | None
    ) -> None:
        self.pipeline = pipeline
        self.config = config
        self.updater = updater

    @property
    def health(self) -> Health:
        """What probation looks at."""
        return Health(self.pipeline.batches, self.pipeline.broken_batches)


class Tier2Node:
    """Answers escalations, reports to the cloud, hands releases down.

    Args:
        config: the node.
        site: the site's broker.
        cloud: the cloud's broker; the same link where one broker serves both.
        metrics: what is counted.
        presence: birth and info.
    """

    def __init__(
        self,
        config: Tier2Config,
        site: Link,
        cloud: Link,
        metrics: NodeMetrics,
        presence: Presence,
    ) -> None:
        self._config = config
        self._site = site
        self._cloud = cloud
        self._topics = config.topics
        self._cloud_topics = Topics(config.prefix, CLOUD_SITE)
        self._metrics = metrics
        self._presence = presence
        self._uplink = self._make_uplink()
        self._relays = self._make_relays()
        self._lanes = {
            name: Lane(
                Tier2Pipeline(name, pipeline, metrics),
                pipeline,
                make_updater(pipeline, config, site, metrics),
            )
            for name, pipeline in config.pipelines.items()
        }
        self._channels = {
            self._topics.releases(lane.config.releases.channel): lane.updater
            for lane in self._lanes.values()
            if lane.updater is not None and lane.config.releases is not None
        }

    @property
    def links(self) -> Sequence[Link]:
        """The site's broker, and the cloud's if it is another."""
        return (self._site,) if self._cloud is self._site else (self._site, self._cloud)

    def start(self) -> None:
        """Loads the models, opens the spool, says what to subscribe to.

        Raises:
            ArtefactError: a configured model cannot serve.
            StorageError: the spool cannot be opened.
        """
        self._uplink.start()
        for relay in self._relays.values():
            relay.start()
        for name, lane in self._lanes.items():
            model = first_model(name, lane.config, lane.updater)
            if model is not None:
                self._serve(lane, model)
            else:
                log.info("%s waits for its first release", name)
            self._site.subscribe(self._topics.escalations(name))

    def on_connected(self, link: Link) -> None:
        """Publishes again what a broker may have forgotten."""
        if link is self._site:
            self._announce()
            for updater in self._channels.values():
                updater.on_connected(time.monotonic())
            for relay in self._relays.values():
                relay.on_site_connected()
        if link is self._cloud:
            self._uplink.on_connected()

    def on_message(self, link: Link, message: Message, now_s: float) -> None:
        """Hands a message to whom its topic names."""
        topic = message.topic
        try:
            if topic == self._uplink.acks_topic:
                self._uplink.on_ack(message.payload)
            elif topic in self._channels:
                self._channels[topic].on_manifest(message.payload, now_s)
            elif topic in self._relays:
                self._relays[topic].on_manifest(message.payload, now_s)
            elif not self._on_chunk(message, now_s):
                self._on_escalation(message, now_s)
        except (PayloadError, StorageError) as error:
            log.warning("%s: %s", topic, error)
            self._metrics.drops.labels(reason=getattr(error, "reason", "storage")).inc()
        link.done(message)

    def turn(self, now_s: float) -> None:
        """Batch → infer → reply → record → send up, then releases."""
        for lane in self._lanes.values():
            self._infer(lane, now_s)
            if lane.updater is not None:
                model = lane.updater.poll(lane.health, now_s)
                if model is not None:
                    self._serve(lane, model)
                    self._announce()
        self._uplink.poll(now_s)
        for relay in self._relays.values():
            relay.poll(now_s)

    def next_wake_s(self, now_s: float) -> float:
        """Returns how long nothing is due."""
        working: list[Updater | ChannelRelay] = [*self._channels.values(), *self._relays.values()]
        if any(part.busy for part in working):
            return BUSY_WAIT_S
        due = [self._uplink.due_s(), *(lane.pipeline.due_s() for lane in self._lanes.values())]
        return min((due_s - now_s for due_s in due if due_s is not None), default=IDLE_WAIT_S)

    def farewell(self) -> None:
        """Says that the node leaves."""
        self._presence.farewell(self._site)

    def close(self) -> None:
        """Ends updates under way, puts what is left of the telemetry on the disk."""
        for updater in self._channels.values():
            updater.close()
        self._uplink.close()

    # Messages

    def _on_chunk(self, message: Message, now_s: float) -> bool:
        from_cloud = self._cloud_topics.blob_chunk(message.topic)
        from_site = self._topics.blob_chunk(message.topic)
        if from_cloud is not None:
            for relay in self._relays.values():
                relay.on_chunk(*from_cloud, message.payload, now_s)
        if from_site is not None:
            for updater in self._channels.values():
                updater.on_chunk(*from_site, message.payload, now_s)
        return from_cloud is not None or from_site is not None

    def _on_escalation(self, message: Message, now_s: float) -> None:
        escalation = unpack(message.payload, Escalation)
        lane = self._lanes.get(escalation.pipeline)
        if lane is None or message.topic != self._topics.escalations(
            escalation.pipeline, escalation.node
        ):
            raise PayloadError(
                "bad_topic", f"an escalation of {escalation.node} does not belong here"
            )
        lane.pipeline.admit(escalation, now_s)
        self._uplink.count(escalation, now_s)

    # Acts

    def _infer(self, lane: Lane, now_s: float) -> None:
        while (answered := lane.pipeline.infer(time.monotonic())) is not None:
            for reply in answered.replies:
                self._site.publish(self._topics.replies(reply.pipeline, reply.node), pack(reply))
            self._uplink.add(answered.records, now_s)

    def _serve(self, lane: Lane, model: Model) -> None:
        lane.pipeline.model = model
        self._metrics.show_model(lane.pipeline.name, model.spec.name, model.spec.version)
        log.info("%s: version %s serves", lane.pipeline.name, model.spec.version)

    def _announce(self) -> None:
        models = {
            name: lane.pipeline.model.spec
            for name, lane in self._lanes.items()
            if lane.pipeline.model is not None
        }
        self._presence.announce(self._site, models)

    # Parts

    def _make_uplink(self) -> Uplink:
        config = self._config
        limits = SpoolLimits(config.telemetry.max_spool_bytes, config.telemetry.max_spool_age_s)
        return Uplink(
            node=config.node,
            config=config.telemetry,
            spool=Spool(config.state_dir / "telemetry.sqlite", limits),
            link=self._cloud,
            topics=self._topics,
            metrics=self._metrics,
        )

    def _make_relays(self) -> dict[str, ChannelRelay]:
        config = self._config.relay
        if config is None:
            return {}
        trust = read_trust(config.trust)
        relays = [
            ChannelRelay(
                channel=channel,
                folder=self._config.state_dir / "relay",
                trust=trust,
                up=(self._cloud, self._cloud_topics),
                down=(self._site, self._topics),
                metrics=self._metrics,
            )
            for channel in config.channels
        ]
        return {relay.manifest_topic: relay for relay in relays}
