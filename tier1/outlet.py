"""Where a node's answers leave: actions, predictions, and the acknowledgement of their samples."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from functools import partial

from shared.errors import PayloadError
from shared.messages import to_json
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from tier1.answers import Answer
from tier1.deliveries import Deliveries, Taken
from tier1.lane import Lane
from tier1.tally import Tally

MAX_UNSENT = 10_000

log = logging.getLogger(__name__)


class Outlet:
    """Publishes answers, and keeps those that the link does not take now.

    Args:
        link: the site's broker.
        deliveries: the samples under way.
        metrics: what is counted.
    """

    def __init__(self, link: Link, deliveries: Deliveries, metrics: NodeMetrics) -> None:
        self._link = link
        self._deliveries = deliveries
        self._metrics = metrics
        self._tally = Tally(metrics)
        self._unsent: deque[tuple[Lane, Answer]] = deque()

    def publish(self, lane: Lane, answers: Sequence[Answer]) -> None:
        """Publishes answers, in their order."""
        for answer in answers:
            if self._unsent or not self._send(lane, answer):
                self._keep(lane, answer)

    def poll(self) -> None:
        """Sends what the link did not take before."""
        while self._unsent and self._send(*self._unsent[0]):
            self._unsent.popleft()

    def count(self) -> None:
        """Puts what was published into the metrics."""
        self._tally.flush()

    def _send(self, lane: Lane, answer: Answer) -> bool:
        """Hands an answer to the link; returns False if it was not taken, and may be later."""
        try:
            return self._hand_over(lane, answer)
        except PayloadError as error:
            log.error("an answer of %s can never be sent: %s", lane.pipeline.name, error)
            self._metrics.drops.labels(reason=f"prediction_{error.reason}").inc()
            if answer.taken is not None:
                self._acknowledge(answer.taken)
            return True

    def _hand_over(self, lane: Lane, answer: Answer) -> bool:
        taken, link = answer.taken, self._link
        # Before the prediction: whoever has its acknowledgement has theirs.
        for action in lane.actions(answer):
            if not link.publish(action.topic, action.payload, qos=action.qos, retain=action.retain):
                return False
        on_ack = partial(self._acknowledge, taken) if taken is not None and lane.qos else None
        topic = lane.prediction_topic(answer.prediction.device_id)
        if not link.publish(topic, to_json(answer.prediction), qos=lane.qos, on_ack=on_ack):
            return False
        self._tally.add(answer)
        if taken is not None:
            self._deliveries.answered(taken)
            if on_ack is None:
                self._acknowledge(taken)
        return True

    def _keep(self, lane: Lane, answer: Answer) -> None:
        """Keeps what the link does not take now, up to a bound."""
        if len(self._unsent) < MAX_UNSENT:
            self._unsent.append((lane, answer))
            return
        # Not acknowledged: the broker brings the sample again, if its session lives.
        self._metrics.drops.labels(reason="prediction_not_sent").inc()
        if answer.taken is not None:
            self._deliveries.end(answer.taken)

    def _acknowledge(self, taken: Taken) -> None:
        self._link.done(self._deliveries.end(taken))
