"""A tier-1 node: joins its pipelines to the site's broker."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from functools import partial

import numpy as np

from shared.errors import PayloadError
from shared.messages import Prediction, Reply, SampleError, pack, to_json, unpack
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.presence import Presence
from shared.runtime import BUSY_WAIT_S, IDLE_WAIT_S
from shared.serving import NodeModels
from shared.topics import last_level
from tier1.config import Tier1Config, Tier1PipelineConfig
from tier1.deliveries import Deliveries
from tier1.pipeline import Answer, Received, Tier1Pipeline
from tier1.samples import SampleDecoder, sender_id

MAX_UNSENT = 10_000

log = logging.getLogger(__name__)


class Lane:
    """One pipeline with its decoder.

    Args:
        pipeline: the data path.
        config: its configuration.
    """

    def __init__(self, pipeline: Tier1Pipeline, config: Tier1PipelineConfig) -> None:
        self.pipeline = pipeline
        self.config = config
        self.decoder = SampleDecoder(config.input.shape, config.max_payload_bytes)
        self.qos = 1 if config.delivery == "at_least_once" else 0


class Tier1Node:
    """Takes samples and replies, publishes predictions, errors and escalations.

    Args:
        config: the node.
        link: the site's broker.
        metrics: what is counted.
        presence: birth and info.
        rng: draws the audits.
    """

    def __init__(
        self,
        config: Tier1Config,
        link: Link,
        metrics: NodeMetrics,
        presence: Presence,
        rng: np.random.Generator,
    ) -> None:
        self._config = config
        self._link = link
        self._topics = config.topics
        self._metrics = metrics
        self._presence = presence
        self._lanes = {
            name: Lane(Tier1Pipeline(name, config.node, pipeline, rng, metrics), pipeline)
            for name, pipeline in config.pipelines.items()
        }
        self._deliveries = Deliveries()
        self._unsent: deque[tuple[Lane, Answer]] = deque()
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
        """
        self._models.start()
        for name, lane in self._lanes.items():
            # QoS 0, as all but samples: a reply must come even while unanswered samples fill the
            # receive window, and needs no acknowledgement behind theirs.
            self._link.subscribe(self._topics.replies(name, self._config.node), 0)
            for sensor in lane.config.sensors or ("+",):
                self._link.subscribe(self._topics.samples(name, sensor), lane.qos)

    def on_connected(self, link: Link) -> None:
        """Publishes birth and info, reconciles releases."""
        self._models.on_connected(time.monotonic())

    def on_message(self, link: Link, message: Message, now_s: float) -> None:
        """Hands a message to whom its topic names."""
        if message.topic in self._replies:
            self._on_reply(self._replies[message.topic], message, now_s)
        elif self._models.take(message, now_s):
            self._link.done(message)
        else:
            self._on_sample(message, now_s)

    def turn(self, now_s: float) -> None:
        """Batch → infer → gate → publish, then deadlines and updates."""
        self._send_again()
        for lane in self._lanes.values():
            self._infer(lane)
            self._publish(lane, lane.pipeline.expire(now_s))
        self._models.poll(now_s)

    def next_wake_s(self, now_s: float) -> float:
        """Returns how long nothing is due."""
        if self._models.busy:
            return BUSY_WAIT_S
        due = [lane.pipeline.due_s() for lane in self._lanes.values()]
        return min((due_s - now_s for due_s in due if due_s is not None), default=IDLE_WAIT_S)

    def farewell(self) -> None:
        """Says that the node leaves."""
        self._presence.farewell(self._link)

    def close(self) -> None:
        """Ends updates under way."""
        self._models.close()

    # Messages

    def _on_sample(self, message: Message, now_s: float) -> None:
        parts = message.topic.split("/")
        lane = self._lanes.get(parts[2]) if len(parts) == 5 else None
        sensor = last_level(message.topic)
        unusable = "bad_topic" if lane is None or sensor is None else ""
        if lane is not None and lane.config.sensors is not None:
            # A persistent session still holds what an earlier configuration subscribed to.
            unusable = unusable or ("not_our_sensor" if sensor not in lane.config.sensors else "")
        if message.retain:
            # It would be answered at every connect.
            unusable = unusable or "retained"
        if unusable or lane is None or sensor is None:
            self._metrics.drops.labels(reason=unusable).inc()
            self._link.done(message)
            return
        if self._deliveries.is_under_way(message):
            return
        if self._deliveries.is_answered(message):
            self._link.done(message)
            return
        try:
            sample = lane.decoder.decode(message.payload, time.time())
            lane.pipeline.admit(Received(sample, sensor, message, now_s))
            self._deliveries.begin(message)
        except PayloadError as error:
            self._refuse(lane, sensor, message, error)

    def _refuse(self, lane: Lane, sensor: str, message: Message, error: PayloadError) -> None:
        """Tells the sender what was wrong, and goes on."""
        self._metrics.drops.labels(reason=error.reason).inc()
        reason = SampleError(
            id=sender_id(message.payload, lane.config.max_payload_bytes),
            device_id=sensor,
            timestamp=time.time(),
            error=str(error),
            expected=error.expected,
        )
        topic = self._topics.errors(lane.pipeline.name, sensor)
        self._link.publish(topic, to_json(reason), qos=0)
        self._link.done(message)

    def _on_reply(self, lane: Lane, message: Message, now_s: float) -> None:
        try:
            answers = lane.pipeline.on_reply(unpack(message.payload, Reply), now_s)
        except PayloadError as error:
            log.warning("%s: %s", message.topic, error)
            self._metrics.drops.labels(reason=error.reason).inc()
        else:
            self._publish(lane, answers)
        self._link.done(message)

    # Acts

    def _infer(self, lane: Lane) -> None:
        """Runs batch after batch until none is due."""
        while True:
            outcome = lane.pipeline.infer(time.monotonic())
            self._publish(lane, outcome.answers)
            if outcome.escalation is not None:
                topic = self._topics.escalations(lane.pipeline.name, self._config.node)
                deadline_s = lane.config.escalation.deadline_ms / 1000
                self._link.publish(topic, pack(outcome.escalation), expiry_s=deadline_s)
            if not outcome.answers and outcome.escalation is None:
                return

    def _publish(self, lane: Lane, answers: Sequence[Answer]) -> None:
        for answer in answers:
            if not self._send(lane, answer):
                self._keep(lane, answer)

    def _send(self, lane: Lane, answer: Answer) -> bool:
        """Hands an answer to the link; returns False if it was not taken."""
        prediction, message = answer.prediction, answer.message
        topic = self._topics.predictions(lane.pipeline.name, prediction.device_id)
        on_ack = partial(self._acknowledge, message) if message and lane.qos else None
        if not self._link.publish(topic, to_json(prediction), qos=lane.qos, on_ack=on_ack):
            return False
        self._count(prediction)
        if message is not None:
            self._deliveries.answered(message)
            if on_ack is None:
                self._acknowledge(message)
        return True

    def _keep(self, lane: Lane, answer: Answer) -> None:
        """Keeps what the link does not take now. Without a connection the broker has the sample."""
        if self._link.connected and len(self._unsent) < MAX_UNSENT:
            self._unsent.append((lane, answer))
            return
        self._metrics.drops.labels(reason="prediction_not_sent").inc()
        if answer.message is not None:
            self._deliveries.end(answer.message)

    def _send_again(self) -> None:
        for _ in range(len(self._unsent)):
            lane, answer = self._unsent.popleft()
            if not self._send(lane, answer):
                self._keep(lane, answer)
                return

    def _acknowledge(self, message: Message) -> None:
        self._link.done(self._deliveries.end(message))

    def _count(self, prediction: Prediction) -> None:
        if prediction.is_correction:
            return
        self._metrics.latency_seconds.observe(prediction.latency_ms / 1000)
        by, reason = prediction.decided_by, prediction.reason
        self._metrics.predictions.labels(decided_by=by, reason=reason).inc()
