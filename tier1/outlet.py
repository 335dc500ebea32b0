"""Where a node's answers leave: actions, predictions, and the acknowledgement of their samples."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from shared.errors import PayloadError
from shared.messages import to_json
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from tier1.answers import Answer
from tier1.deliveries import Deliveries, Taken
from tier1.lane import Lane
from tier1.routes import Action
from tier1.tally import Tally

MAX_UNSENT = 10_000

Tell = Callable[[Lane, str, bytes, PayloadError], None]

log = logging.getLogger(__name__)


class Waiting(msgspec.Struct, gc=False, eq=False):
    """An answer that the link did not take.

    Attributes:
        lane: whose it is.
        answer: it.
        actions: what it sets off that has not left either.
    """

    lane: Lane
    answer: Answer
    actions: Sequence[Action]


class Outlet:
    """Publishes answers, and keeps those that the link does not take now.

    Args:
        link: the site's broker.
        deliveries: the samples under way.
        metrics: what is counted.
        tell: tells a sender what was wrong: lane, sensor, payload, error.
    """

    def __init__(
        self, link: Link, deliveries: Deliveries, metrics: NodeMetrics, tell: Tell
    ) -> None:
        self._link = link
        self._tell = tell
        self._deliveries = deliveries
        self._metrics = metrics
        self._tally = Tally(metrics)
        self._unsent: deque[Waiting] = deque()

    def publish(self, lane: Lane, answers: Sequence[Answer]) -> None:
        """Publishes answers, in their order."""
        for answer in answers:
            # In their order: behind those that wait, if any do.
            left = lane.actions(answer) if self._unsent else self._send(lane, answer)
            if left is not None:
                self._keep(Waiting(lane, answer, left))

    def poll(self) -> None:
        """Sends what the link did not take before."""
        while self._unsent:
            first = self._unsent[0]
            left = self._finish(first.lane, first.answer, first.actions)
            if left is not None:
                first.actions = left
                return
            self._unsent.popleft()

    def count(self, now_s: float) -> None:
        """Puts what was published into the metrics, now and then."""
        self._tally.poll(now_s)

    def close(self) -> None:
        """Puts what was published last into the metrics."""
        self._tally.flush()

    def _send(self, lane: Lane, answer: Answer) -> Sequence[Action] | None:
        return self._finish(lane, answer, lane.actions(answer))

    def _finish(
        self, lane: Lane, answer: Answer, actions: Sequence[Action]
    ) -> Sequence[Action] | None:
        """Hands actions and then the prediction to the link.

        Returns:
            None if it took all; else the actions that it did not take, and that still have to go
            before the prediction.
        """
        # Before the prediction: whoever has its acknowledgement has theirs.
        for number, action in enumerate(actions):
            if not self._act(action):
                return actions[number:]
        try:
            return None if self._predict(lane, answer) else ()
        except PayloadError as error:
            self._give_up(lane, answer, error)
            return None

    def _act(self, action: Action) -> bool:
        """Publishes an action; one that can never be sent must not take the prediction with it."""
        try:
            return self._link.publish(
                action.topic, action.payload, qos=action.qos, retain=action.retain
            )
        except PayloadError as error:
            log.error("an action on %s can never be sent: %s", action.topic, error)
            self._metrics.drops.labels(reason=f"action_{error.reason}").inc()
            return True

    def _predict(self, lane: Lane, answer: Answer) -> bool:
        taken = answer.taken
        on_ack = partial(self._acknowledge, taken) if taken is not None and lane.qos else None
        topic = lane.prediction_topic(answer.prediction.device_id)
        payload = to_json(answer.prediction)
        if not self._link.publish(topic, payload, qos=lane.qos, on_ack=on_ack):
            return False
        self._tally.add(answer)
        if taken is not None:
            self._deliveries.answered(taken)
            if on_ack is None:
                self._acknowledge(taken)
        return True

    def _give_up(self, lane: Lane, answer: Answer, error: PayloadError) -> None:
        """Tells the sender that its answer can never be sent, and forgets the sample."""
        log.error("an answer of %s can never be sent: %s", lane.pipeline.name, error)
        reason = f"prediction_{error.reason}"
        self._metrics.drops.labels(reason=reason).inc()
        if answer.taken is not None:
            told = PayloadError(reason, f"the answer is {error}", "send fewer samples a message")
            self._tell(lane, answer.taken.sensor, answer.taken.message.payload, told)
            self._acknowledge(answer.taken)

    def _keep(self, waiting: Waiting) -> None:
        """Keeps what the link does not take now, up to a bound."""
        if len(self._unsent) < MAX_UNSENT:
            self._unsent.append(waiting)
            return
        # Not acknowledged: the broker brings the sample again, if its session lives.
        self._metrics.drops.labels(reason="prediction_not_sent").inc()
        if waiting.answer.taken is not None:
            self._deliveries.end(waiting.answer.taken)

    def _acknowledge(self, taken: Taken) -> None:
        self._link.done(self._deliveries.end(taken))
