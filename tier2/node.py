"""A tier-2 node: joins its pipelines, its uplink and its relays to their brokers."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence

from shared.config import BrokerConfig
from shared.errors import PayloadError, StorageError
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.presence import Presence
from shared.runtime import BUSY_WAIT_S, IDLE_WAIT_S
from shared.serving import NodeModels
from shared.spool import Spool, SpoolLimits
from shared.topics import CLOUD_SITE, Topics
from shared.workers.verdicts import make_verdicts
from shared.workers.worker import ALONE, Worker
from tier2.config import Tier2Config, Tier2PipelineConfig
from tier2.labels import Labels
from tier2.lane import Lane, Region
from tier2.pipeline import Tier2Pipeline
from tier2.relays import Relays, open_relays
from tier2.shares import EscalationShares
from tier2.site_news import SiteNews
from tier2.telemetry import Uplink

log = logging.getLogger(__name__)


class Tier2Node:
    """Answers escalations, reports to the cloud, hands releases down.

    Args:
        config: the node.
        links: by broker: the site's, the cloud's and those of the nodes above. Those of one broker
            are one link.
        metrics: what is counted.
        presence: birth and info.
        rng: draws the audits and the first correlation numbers.
        wake: ends the loop's wait, from another thread.
        worker: which of the node's processes this is. Worker 0 alone hands releases down.
        labels_link: the site's broker once more, for labels of people; None to take none.
    """

    def __init__(
        self,
        config: Tier2Config,
        links: Mapping[BrokerConfig, Link],
        metrics: NodeMetrics,
        presence: Presence,
        *,
        rng: random.Random,
        wake: Callable[[], None],
        worker: Worker = ALONE,
        labels_link: Link | None = None,
    ) -> None:
        self._config = config
        self._links = links
        self._site = links[config.broker]
        self._cloud = links[config.cloud or config.broker]
        self._topics = config.topics
        self._cloud_topics = Topics(config.prefix, CLOUD_SITE)
        self._metrics = metrics
        self._presence = presence
        self._worker = worker
        self._uplink = self._make_uplink()
        self._relays = self._make_relays()
        self._news = self._make_news()
        self._lanes = {
            name: self._make_lane(name, pipeline, rng, wake)
            for name, pipeline in config.pipelines.items()
        }
        self._by_head = {
            _head(self._topics.escalations(name)): lane for name, lane in self._lanes.items()
        }
        self._labels = self._make_labels(labels_link)
        self._shares = self._make_shares()
        self._models = NodeModels(
            config=config,
            pipelines=config.pipelines,
            slots={name: lane.pipeline.slot for name, lane in self._lanes.items()},
            link=self._site,
            metrics=metrics,
            presence=presence,
            worker=worker,
        )

    @property
    def links(self) -> Sequence[Link]:
        """The site's broker, the cloud's and those of the nodes above, as far as they differ."""
        own = tuple(self._links.values())
        return own if self._labels is None else (*own, self._labels.link)

    def start(self) -> None:
        """Loads the models, opens the spool, says what to subscribe to.

        Raises:
            ArtefactError: a configured model cannot serve.
            StorageError: the spool cannot be opened.
        """
        self._uplink.start()
        if self._relays is not None:
            self._relays.start()
        if self._news is not None:
            self._news.start()
        self._models.start()
        self._presence.watch(self._site)
        for lane in self._lanes.values():
            lane.start()
        if self._labels is not None:
            self._labels.start()
        self._shares.start()

    def on_connected(self, link: Link) -> None:
        """Publishes again what a broker may have forgotten."""
        now_s = time.monotonic()
        if link is self._site:
            self._models.on_connected(now_s)
            if self._relays is not None:
                self._relays.on_site_connected(now_s)
        if link is self._cloud:
            self._uplink.on_connected()
            if self._news is not None:
                self._news.on_cloud_connected()

    def on_message(self, link: Link, message: Message, now_s: float) -> None:
        """Hands a message to whom its topic names."""
        if self._labels is not None and link is self._labels.link:
            self._labels.take(message, now_s)
            return
        try:
            self._dispatch(link, message, now_s)
        except (PayloadError, StorageError) as error:
            log.warning("%s: %s", message.topic, error)
            self._metrics.drops.labels(reason=getattr(error, "reason", "storage")).inc()
        link.done(message)

    def turn(self, now_s: float) -> None:
        """Batch → infer → reply → record → send up, then releases."""
        self._shares.poll(now_s)
        if self._shares.remark != self._presence.remark:
            self._presence.remark = self._shares.remark
            self._models.announce()
        for lane in self._lanes.values():
            lane.turn(now_s)
        for link in self.links:
            link.flush()  # nobody's answer waits for what can wait: updates, the disk
        self._models.poll(now_s)
        if self._labels is not None:
            self._labels.poll(now_s)
        self._uplink.poll(now_s)
        if self._relays is not None:
            self._relays.poll(now_s)
        if self._news is not None:
            self._news.poll()
        self._metrics.ready.set(self._ready)

    def next_wake_s(self, now_s: float) -> float:
        """Returns how long nothing is due."""
        if self._models.busy or (self._relays is not None and self._relays.busy):
            return BUSY_WAIT_S
        due = [self._uplink.due_s(), self._shares.due_s()]
        due += [lane.pipeline.due_s(now_s) for lane in self._lanes.values()]
        return min((due_s - now_s for due_s in due if due_s is not None), default=IDLE_WAIT_S)

    def farewell(self) -> None:
        """Says that the node leaves."""
        self._models.farewell()
        self._presence.farewell(self._site)
        if self._news is not None:
            self._presence.farewell(self._cloud)

    def close(self) -> None:
        """Ends updates and inference under way, puts what is left of the telemetry on the disk."""
        self._models.close()
        if self._relays is not None:
            self._relays.close()
        for lane in self._lanes.values():
            lane.pipeline.close()
        self._uplink.close()

    @property
    def idle(self) -> bool:
        """Whether the cloud has all that this process had for it."""
        return self._uplink.settled

    @property
    def _ready(self) -> bool:
        """Whether questions that come are answered."""
        models = (lane.pipeline.slot.model for lane in self._lanes.values())
        return self._site.connected and all(model is not None for model in models)

    # Messages

    def _dispatch(self, link: Link, message: Message, now_s: float) -> None:
        topic = message.topic
        if self._news is not None and self._news.take(link, message):
            self._presence.on_state(link, message, now_s)
            return
        lane = self._by_head.get(_head(topic)) if link is self._site else None
        if lane is not None:
            escalation = lane.read(message)
            if self._shares.takes(escalation.node):
                lane.take(escalation, now_s)
            return
        for each in self._lanes.values():
            if each.is_from_region(link, topic):
                each.take_reply(message, now_s)
                return
        if topic == self._uplink.acks_topic:
            self._uplink.on_ack(message.payload)
        elif not self._is_about_us(link, message, now_s) and not self._release(
            link, message, now_s
        ):
            raise PayloadError("bad_topic", "nothing of this node's")

    def _is_about_us(self, link: Link, message: Message, now_s: float) -> bool:
        """Takes what this node, or another one under its name, says of itself."""
        return self._presence.on_state(link, message, now_s) or self._shares.take_probe(message)

    def _release(self, link: Link, message: Message, now_s: float) -> bool:
        """Takes what belongs to releases, from the site or from the cloud: both may want it."""
        ours = self._models.take(message, now_s)
        handed = self._relays is not None and self._relays.take(link, message, now_s)
        return ours or handed

    # Parts

    def _make_uplink(self) -> Uplink:
        config = self._config
        telemetry = config.telemetry
        limits = SpoolLimits(telemetry.max_spool_bytes, telemetry.max_spool_age_s)
        return Uplink(
            node=self._worker.name(config.node),
            config=telemetry,
            spool=Spool(config.state_dir / self._worker.file_name("telemetry.sqlite"), limits),
            link=self._cloud,
            topics=self._topics,
            metrics=self._metrics,
        )

    def _make_lane(
        self,
        name: str,
        config: Tier2PipelineConfig,
        rng: random.Random,
        wake: Callable[[], None],
    ) -> Lane:
        own_name = self._config.name_upstream(self._worker)
        region = None
        if config.upstream is not None:
            above = Topics(self._config.prefix, config.upstream.site)
            region = Region(
                self._links[self._config.upstream_broker(config.upstream)],
                above.escalations(name, own_name),
                above.replies(name, own_name),
            )
        pipeline = Tier2Pipeline(
            name=name,
            config=config,
            name_upstream=own_name,
            rng=rng,
            metrics=self._metrics,
            wake=wake,
        )
        return Lane(
            name=name,
            pipeline=pipeline,
            site=self._site,
            topics=self._topics,
            region=region,
            uplink=self._uplink,
            metrics=self._metrics,
        )

    def _make_labels(self, link: Link | None) -> Labels | None:
        if link is None:
            return None
        return Labels(
            link=link,
            site=self._site,
            topics=self._topics,
            slots={name: lane.pipeline.slot for name, lane in self._lanes.items()},
            uplink=self._uplink,
            metrics=self._metrics,
        )

    def _make_shares(self) -> EscalationShares:
        groups = {
            self._topics.escalations(name): pipeline.group
            for name, pipeline in self._config.pipelines.items()
        }
        verdicts = make_verdicts(
            self._worker,
            self._worker.name(self._config.node),
            self._site,
            self._topics,
            folder=self._config.state_dir,
            url=self._config.broker.url,
            rng=random.Random(),  # noqa: S311 - a nonce, not a secret
        )
        return EscalationShares(groups, self._site, verdicts, self._worker)

    def _make_relays(self) -> Relays | None:
        config = self._config.relay
        if config is None or not self._worker.leads:
            return None
        return open_relays(
            config,
            self._config.state_dir,
            node=self._config.name_upstream(),
            up=(self._cloud, self._cloud_topics),
            down=(self._site, self._topics),
            metrics=self._metrics,
            rng=random.Random(),  # noqa: S311 - jitter, not a secret
        )

    def _make_news(self) -> SiteNews | None:
        """Returns what hands news up; None where nothing is above, or it is on the same broker."""
        if self._site is self._cloud or not self._worker.leads:
            return None
        return SiteNews(self._site, self._cloud, self._topics, self._metrics)


def _head(topic: str) -> str:
    """Returns a topic without its last level."""
    return topic.rpartition("/")[0]
