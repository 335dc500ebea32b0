"""Where a node's samples come in: whose they are, if they come again, if there is room."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable

from shared.errors import PayloadError
from shared.messages import to_json
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.mqtt.trouble_log import TroubleLog
from tier1.deliveries import Deliveries, Taken
from tier1.lane import Lane

MAX_KNOWN_TOPICS = 10_000
NO_MODEL = PayloadError(
    "no_model", "this pipeline has no model yet", "send again once its first release is there"
)

Route = tuple[Lane, str]

log = logging.getLogger(__name__)


class Intake:
    """Takes samples on, each once, and tells a sender what was wrong with one.

    Args:
        lanes: the node's pipelines.
        link: the site's broker.
        deliveries: the samples under way.
        metrics: what is counted.
        max_packet_bytes: the link takes no larger packet.
    """

    def __init__(
        self,
        lanes: Iterable[Lane],
        link: Link,
        deliveries: Deliveries,
        metrics: NodeMetrics,
        max_packet_bytes: int,
    ) -> None:
        self._lanes = tuple(lanes)
        self._link = link
        self._deliveries = deliveries
        self._metrics = metrics
        self._max_packet_bytes = max_packet_bytes
        self._routes: dict[str, Route] = {}
        self._deferred: Counter[Lane] = Counter()
        self._restarts = 0
        self._troubles = TroubleLog(log)

    def on_connected(self) -> None:
        """Forgets what was left to the broker: it brings that again now."""
        self._deferred.clear()

    def find(self, topic: str) -> Route | None:
        """Returns whose samples come on a topic, and from which sensor; None if nobody's."""
        route = self._routes.get(topic)
        if route is not None:
            return route
        fits = [
            (lane, sensor)
            for lane in self._lanes
            if (sensor := lane.sample_topic.sensor(topic)) is not None
        ]
        if not fits:
            return None
        if len(self._routes) >= MAX_KNOWN_TOPICS:
            self._routes.clear()
        # Pipelines may share a topic and divide its sensors.
        route = next((each for each in fits if each[0].answers(each[1])), fits[0])
        self._routes[topic] = route
        return route

    def take(self, lane: Lane, sensor: str, message: Message, now_s: float) -> None:
        """Takes a sample on, or says why not.

        Args:
            lane: whose it is.
            sensor: who sent it.
            message: how it came.
            now_s: monotonic.
        """
        if message.retain:
            # It would be answered at every connect.
            self.drop(message, "retained")
        elif not lane.answers(sensor):
            self.drop(message, "not_our_sensor")
        elif message.dup and self._deliveries.is_under_way(message):
            return
        elif message.dup and self._deliveries.is_answered(message):
            self._link.done(message)
        else:
            self._decode(lane, sensor, message, now_s)

    def refuse(self, lane: Lane, taken: Taken, error: PayloadError) -> None:
        """Tells a sender what was wrong with a sample that was taken on, and forgets it."""
        self._tell(lane, taken.sensor, self._deliveries.end(taken), error)

    def tell_skipped(self, is_ours: Callable[[str], bool]) -> None:
        """Tells who sent a sample that is larger than a packet may be. The link has counted it.

        Args:
            is_ours: whether this process answers for a sensor.
        """
        for reason, topic, _, size, retain in self._link.take_skipped():
            route = self.find(topic)
            if reason != "too_large" or retain or route is None:
                continue
            lane, sensor = route
            if lane.answers(sensor) and is_ours(sensor):
                problem = f"{size} bytes, more than {self._max_packet_bytes} of a packet"
                self.tell(lane, sensor, b"", PayloadError(reason, problem))

    def drop(self, message: Message, reason: str) -> None:
        """Puts a message away and counts it."""
        self._metrics.drops.labels(reason=reason).inc()
        self._link.done(message)

    def poll(self) -> None:
        """Has the broker bring again what there was no room for: it does at a new connection.

        Not before it has acknowledged every answer, or it would get some of them twice.
        """
        if not self._deferred or any(lane.pipeline.waiting for lane in self._deferred):
            return
        if self._link.settled:
            self._restarts += 1
            # After 1, 2, 4, 8, ... times: a queue may be full all day.
            if self._restarts.bit_count() == 1:
                log.warning(
                    "%d samples were left to the broker; connecting anew to have them (%d times). "
                    "Fix: raise batching.queue_size, lower the broker's max_inflight_messages, or "
                    "write broker.protocol: 5",
                    self._deferred.total(),
                    self._restarts,
                )
            self._deferred.clear()
            self._link.restart()

    def _decode(self, lane: Lane, sensor: str, message: Message, now_s: float) -> None:
        if message.qos and lane in self._deferred:
            # Or it would overtake those that were left to the broker.
            self._defer(lane)
            return
        if lane.pipeline.slot.model is None and len(self._lanes) > 1:
            # It must not wait: acknowledgements go out in order, and those of the other pipelines
            # would wait behind it.
            self._tell(lane, sensor, message, NO_MODEL)
            return
        try:
            taken = lane.take(message, sensor, now_s)
        except PayloadError as error:
            self._tell(lane, sensor, message, error)
            return
        if lane.pipeline.admit(taken):
            self._deliveries.begin(taken)
        else:
            self._overflow(lane, taken)

    def _overflow(self, lane: Lane, taken: Taken) -> None:
        """Deals with a sample for which the queue has no room."""
        batching = lane.config.batching
        if batching.overflow == "block" and taken.message.qos:
            self._defer(lane)
        elif batching.overflow == "drop_oldest":
            self._make_room(lane, taken)
        else:
            problem = f"{batching.queue_size} samples wait already"
            error = PayloadError("queue_full", problem, "send more slowly")
            self._tell(lane, taken.sensor, taken.message, error)

    def _defer(self, lane: Lane) -> None:
        """Neither acknowledges nor keeps a sample: the broker has it, and brings it again."""
        self._deferred[lane] += 1
        self._metrics.deferrals.inc()

    def _make_room(self, lane: Lane, taken: Taken) -> None:
        while not lane.pipeline.admit(taken):
            oldest = lane.pipeline.drop_oldest()
            if oldest is None:
                break
            problem = "a newer sample took its place in the queue"
            self.refuse(lane, oldest, PayloadError("dropped_oldest", problem))
        self._deliveries.begin(taken)

    def tell(self, lane: Lane, sensor: str, payload: bytes, error: PayloadError) -> None:
        """Tells a sender what was wrong with what it sent."""
        what = f"{lane.pipeline.name}: refused a sample of {sensor}: {error}"
        self._troubles.say(logging.WARNING, what, time.monotonic(), key=error.reason)
        topic, told = lane.refusal(payload, sensor, error)
        try:
            self._link.publish(topic, to_json(told), qos=0)
        except PayloadError as unsaid:
            # A broker that takes next to nothing. The drop itself is counted.
            log.warning("%s: cannot say that %s: %s", topic, error, unsaid)

    def _tell(self, lane: Lane, sensor: str, message: Message, error: PayloadError) -> None:
        self.tell(lane, sensor, message.payload, error)
        self.drop(message, error.reason)
