"""A tier-1 node: joins its pipelines to the site's broker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np

from shared.cascade.backlog import Backlog
from shared.errors import PayloadError
from shared.messages import Reply, pack, unpack
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.presence import Presence
from shared.runtime import BUSY_WAIT_S, IDLE_WAIT_S
from shared.serving import NodeModels
from shared.spool import Spool, SpoolLimits
from tier1.config import Tier1Config, Tier1PipelineConfig
from tier1.deliveries import Deliveries
from tier1.intake import Intake
from tier1.lane import Lane
from tier1.outlet import Outlet
from tier1.pipeline import Outcome, Tier1Pipeline

log = logging.getLogger(__name__)


class Tier1Node:
    """Takes samples and replies, publishes predictions, errors and escalations.

    Args:
        config: the node.
        link: the site's broker.
        metrics: what is counted.
        presence: birth and info.
        rng: draws the audits.
        wake: ends the loop's wait, from another thread.
    """

    def __init__(
        self,
        config: Tier1Config,
        link: Link,
        metrics: NodeMetrics,
        presence: Presence,
        *,
        rng: np.random.Generator,
        wake: Callable[[], None],
    ) -> None:
        self._config = config
        self._link = link
        self._topics = config.topics
        self._metrics = metrics
        self._presence = presence
        self._lanes = {
            name: self._make_lane(name, pipeline, rng, wake)
            for name, pipeline in config.pipelines.items()
        }
        deliveries = Deliveries()
        self._intake = Intake(self._lanes.values(), link, deliveries, metrics)
        self._outlet = Outlet(link, deliveries, metrics)
        self._replies = {
            self._topics.replies(name, config.node): lane for name, lane in self._lanes.items()
        }
        self._models = NodeModels(
            config=config,
            pipelines=config.pipelines,
            slots={name: lane.pipeline.slot for name, lane in self._lanes.items()},
            link=link,
            metrics=metrics,
            presence=presence,
        )

    @property
    def links(self) -> Sequence[Link]:
        """The site's broker."""
        return (self._link,)

    def start(self) -> None:
        """Loads the models and says what to subscribe to.

        Raises:
            ArtefactError: a configured model cannot serve.
            StorageError: the backlog cannot be opened.
        """
        self._models.start()
        for name, lane in self._lanes.items():
            lane.backlog.start()
            # QoS 0, as all but samples: a reply must come even while unanswered samples fill the
            # receive window, and needs no acknowledgement behind theirs.
            self._link.subscribe(self._topics.replies(name, self._config.node), 0)
            for topic_filter in lane.filters:
                self._link.subscribe(topic_filter, lane.qos)

    def on_connected(self, link: Link) -> None:
        """Publishes birth and info, reconciles releases."""
        self._intake.on_connected()
        self._models.on_connected(time.monotonic())

    def on_message(self, link: Link, message: Message, now_s: float) -> None:
        """Hands a message to whom its topic names."""
        route = self._intake.find(message.topic)
        if route is not None:
            self._intake.take(*route, message, now_s)
        elif message.topic in self._replies:
            self._on_reply(self._replies[message.topic], message, now_s)
        elif self._models.take(message, now_s):
            self._link.done(message)
        else:
            self._intake.drop(message, "bad_topic")

    def turn(self, now_s: float) -> None:
        """Batch → infer → gate → publish, then deadlines and updates."""
        self._outlet.poll()
        for lane in self._lanes.values():
            self._infer(lane)
            self._outlet.publish(lane, lane.pipeline.expire(now_s))
            self._send_backlog(lane, now_s)
        self._outlet.count()
        self._intake.poll()
        self._models.poll(now_s)
        self._metrics.ready.set(self._ready)

    def next_wake_s(self, now_s: float) -> float:
        """Returns how long nothing is due."""
        if self._models.busy:
            return BUSY_WAIT_S
        parts = [part for lane in self._lanes.values() for part in (lane.pipeline, lane.backlog)]
        due = [part.due_s() for part in parts]
        return min((due_s - now_s for due_s in due if due_s is not None), default=IDLE_WAIT_S)

    def farewell(self) -> None:
        """Says that the node leaves."""
        self._presence.farewell(self._link)

    def close(self) -> None:
        """Ends updates and inference under way, puts what is left of the backlog on the disk."""
        self._models.close()
        for lane in self._lanes.values():
            lane.pipeline.close()
            lane.backlog.close()

    @property
    def _ready(self) -> bool:
        """Whether samples that come are answered."""
        models = (lane.pipeline.slot.model for lane in self._lanes.values())
        return self._link.connected and all(model is not None for model in models)

    def _on_reply(self, lane: Lane, message: Message, now_s: float) -> None:
        try:
            reply = unpack(message.payload, Reply)
            late = lane.backlog.on_reply(reply.correlations)
            answers = [] if late else lane.pipeline.on_reply(reply, now_s)
        except PayloadError as error:
            log.warning("%s: %s", message.topic, error)
            self._metrics.drops.labels(reason=error.reason).inc()
        else:
            self._outlet.publish(lane, answers)
        self._link.done(message)

    # Acts

    def _infer(self, lane: Lane) -> None:
        """Runs batch after batch until none is due."""
        pipeline = lane.pipeline
        while True:
            for taken, error in pipeline.run(time.monotonic()):
                self._intake.refuse(lane, taken, error)
            outcome = pipeline.gate(time.monotonic(), reachable=self._link.connected)
            if outcome is None:
                return
            self._carry_out(lane, outcome)

    def _carry_out(self, lane: Lane, outcome: Outcome) -> None:
        self._outlet.publish(lane, outcome.answers)
        for questions in outcome.unasked:
            lane.keep(questions)
        for escalation in outcome.escalations:
            if not self._escalate(lane, pack(escalation), escalation.budget_ms / 1000):
                self._carry_out(lane, lane.pipeline.withdraw(escalation, time.monotonic()))

    def _escalate(self, lane: Lane, message: bytes, expiry_s: float | None) -> bool:
        topic = self._topics.escalations(lane.pipeline.name, self._config.node)
        return self._link.publish(topic, message, expiry_s=expiry_s)

    def _send_backlog(self, lane: Lane, now_s: float) -> None:
        """Puts what could not be asked on the disk, and sends of it while tier-2 has time."""
        lane.backlog.poll(now_s)
        idle = self._link.connected and lane.pipeline.quiet(now_s)
        late = lane.backlog.next(now_s, idle=idle)
        if late is not None:
            message = pack(late)
            if self._escalate(lane, message, None):
                lane.pipeline.charge(len(late.samples), len(message))

    # Parts

    def _make_lane(
        self,
        name: str,
        config: Tier1PipelineConfig,
        rng: np.random.Generator,
        wake: Callable[[], None],
    ) -> Lane:
        node, limits = self._config.node, config.escalation.backlog
        pipeline = Tier1Pipeline(
            name=name,
            node=node,
            reply_to=node,
            config=config,
            rng=rng,
            metrics=self._metrics,
            wake=wake,
        )
        backlog = Backlog(
            node=node,
            pipeline=name,
            reply_to=node,
            config=config.escalation,
            spool=Spool(
                self._config.state_dir / "backlog" / f"{name}.sqlite",
                SpoolLimits(limits.max_bytes, limits.max_age_s),
            ),
            rng=rng,
            metrics=self._metrics,
        )
        return Lane(pipeline, config, self._topics, self._metrics, backlog)
