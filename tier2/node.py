"""A tier-2 node: joins its pipelines, its uplink and its relays to the two brokers."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from shared.errors import PayloadError, StorageError
from shared.messages import Escalation, pack, unpack
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.presence import Presence
from shared.runtime import BUSY_WAIT_S, IDLE_WAIT_S
from shared.serving import NodeModels, read_trust
from shared.spool import Spool, SpoolLimits
from shared.topics import CLOUD_SITE, Topics
from tier2.config import Tier2Config
from tier2.pipeline import Tier2Pipeline
from tier2.relay import ChannelRelay
from tier2.telemetry import Uplink

log = logging.getLogger(__name__)


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
        self._pipelines = {
            name: Tier2Pipeline(name, pipeline, metrics)
            for name, pipeline in config.pipelines.items()
        }
        self._models = NodeModels(
            config=config,
            pipelines=config.pipelines,
            slots={name: pipeline.slot for name, pipeline in self._pipelines.items()},
            link=site,
            metrics=metrics,
            presence=presence,
        )

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
        self._models.start()
        self._presence.watch(self._site)
        for name in self._pipelines:
            self._site.subscribe(self._topics.escalations(name))

    def on_connected(self, link: Link) -> None:
        """Publishes again what a broker may have forgotten."""
        now_s = time.monotonic()
        if link is self._site:
            self._models.on_connected(now_s)
            for relay in self._relays.values():
                relay.on_site_connected(now_s)
        if link is self._cloud:
            self._uplink.on_connected()

    def on_message(self, link: Link, message: Message, now_s: float) -> None:
        """Hands a message to whom its topic names."""
        if self._presence.on_state(link, message, now_s):
            return
        topic = message.topic
        try:
            if topic == self._uplink.acks_topic:
                self._uplink.on_ack(message.payload)
            elif not self._models.take(message, now_s) and not self._relay(message, now_s):
                self._on_escalation(message, now_s)
        except (PayloadError, StorageError) as error:
            log.warning("%s: %s", topic, error)
            self._metrics.drops.labels(reason=getattr(error, "reason", "storage")).inc()
        link.done(message)

    def turn(self, now_s: float) -> None:
        """Batch → infer → reply → record → send up, then releases."""
        for pipeline in self._pipelines.values():
            self._infer(pipeline, now_s)
        self._models.poll(now_s)
        self._uplink.poll(now_s)
        for relay in self._relays.values():
            relay.poll(now_s)

    def next_wake_s(self, now_s: float) -> float:
        """Returns how long nothing is due."""
        if self._models.busy:
            return BUSY_WAIT_S
        due = [self._uplink.due_s(), *(part.due_s() for part in self._pipelines.values())]
        return min((due_s - now_s for due_s in due if due_s is not None), default=IDLE_WAIT_S)

    def farewell(self) -> None:
        """Says that the node leaves."""
        self._presence.farewell(self._site)

    def close(self) -> None:
        """Ends updates under way, puts what is left of the telemetry on the disk."""
        self._models.close()
        self._uplink.close()

    # Messages

    def _relay(self, message: Message, now_s: float) -> bool:
        """Hands a manifest or a chunk from the cloud on; returns False if it is neither."""
        relay = self._relays.get(message.topic)
        if relay is not None:
            relay.on_manifest(message.payload, now_s)
            return True
        chunk = self._cloud_topics.blob_chunk(message.topic)
        if chunk is None:
            return False
        for relay in self._relays.values():
            relay.on_chunk(*chunk, message.payload, now_s)
        return True

    def _on_escalation(self, message: Message, now_s: float) -> None:
        escalation = unpack(message.payload, Escalation)
        pipeline = self._pipelines.get(escalation.pipeline)
        if pipeline is None or message.topic != self._topics.escalations(
            escalation.pipeline, escalation.node
        ):
            raise PayloadError(
                "bad_topic", f"an escalation of {escalation.node} does not belong here"
            )
        if pipeline.admit(escalation, now_s):
            self._uplink.count(escalation, now_s)

    # Acts

    def _infer(self, pipeline: Tier2Pipeline, now_s: float) -> None:
        while (answered := pipeline.infer(time.monotonic())) is not None:
            for reply in answered.replies:
                self._site.publish(self._topics.replies(reply.pipeline, reply.node), pack(reply))
            self._uplink.add(answered.records, now_s)

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
