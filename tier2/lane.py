"""One pipeline of a tier-2 node, joined to its brokers."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

from shared.cascade.halves import halves
from shared.errors import PayloadError
from shared.messages import Escalation, Reply, pack, unpack
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.topics import Topics
from shared.workers.worker import MAX_WORKERS, Worker
from tier2.admission import address_of
from tier2.answering import Addressed, Outcome
from tier2.pipeline import Tier2Pipeline
from tier2.telemetry import Uplink

log = logging.getLogger(__name__)


class Region(NamedTuple):
    """Where the node above is asked.

    Attributes:
        link: its broker.
        questions_topic: where questions go.
        replies_topic: where its answers come.
    """

    link: Link
    questions_topic: str
    replies_topic: str


class Lane:
    """Hands messages to a pipeline, and does what it decides.

    Args:
        name: the pipeline.
        pipeline: its data path.
        site: the site's broker.
        topics: of the site.
        region: the node above; None where there is none.
        uplink: where records go.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        name: str,
        pipeline: Tier2Pipeline,
        site: Link,
        topics: Topics,
        region: Region | None,
        uplink: Uplink,
        metrics: NodeMetrics,
    ) -> None:
        self.pipeline = pipeline
        self._name = name
        self._site = site
        self._topics = topics
        self._region = region
        self._uplink = uplink
        self._metrics = metrics

    def start(self) -> None:
        """Says what to subscribe to, beside the escalations."""
        if self._region is not None:
            self._region.link.subscribe(self._region.replies_topic, 0)

    def is_from_region(self, link: Link, topic: str) -> bool:
        """Whether a message is an answer of the node above."""
        region = self._region
        return region is not None and link is region.link and topic == region.replies_topic

    def read(self, message: Message) -> Escalation:
        """Reads a message of questions.

        Raises:
            PayloadError: it is none, or not on its own topic.
        """
        escalation = unpack(message.payload, Escalation)
        node, address = escalation.node, address_of(escalation)
        is_own_address = address == node or _is_workers(address, node)
        is_own_topic = message.topic == self._topics.escalations(self._name, node)
        if escalation.pipeline != self._name or not (is_own_topic and is_own_address):
            problem = f"an escalation of {node!r}, to be answered to {address!r}, is not right here"
            raise PayloadError("bad_topic", problem)
        return escalation

    def take(self, escalation: Escalation, now_s: float) -> None:
        """Admits questions.

        Raises:
            PayloadError: they do not fit the pipeline.
        """
        if self.pipeline.admit(escalation, now_s) and not escalation.recorded:
            self._uplink.count(escalation, now_s)

    def take_reply(self, message: Message, now_s: float) -> None:
        """Takes an answer of the node above.

        Raises:
            PayloadError: it is none.
        """
        reply = unpack(message.payload, Reply)
        self._carry_out(self.pipeline.on_reply(reply, now_s), now_s)

    def turn(self, now_s: float) -> None:
        """Batch → infer → gate → reply, record and ask, then what nobody waits for."""
        self._infer()
        self._carry_out(self.pipeline.expire(now_s), now_s)
        self.pipeline.run_late()
        self._infer()
        if self.pipeline.has_settled and self._uplink.commit(now_s):
            self._reply(self.pipeline.confirm())

    def _infer(self) -> None:
        """Runs batch after batch until none is due."""
        while True:
            self.pipeline.run(time.monotonic())
            reachable = self._region is not None and self._region.link.connected
            outcome = self.pipeline.gate(time.monotonic(), reachable=reachable)
            if outcome is None:
                return
            self._carry_out(outcome, time.monotonic())

    def _carry_out(self, outcome: Outcome, now_s: float) -> None:
        self._reply(outcome.replies)
        self._uplink.add(outcome.records, now_s)
        if self._region is not None:
            for escalation in outcome.escalations:
                self._ask(self._region, escalation, now_s)

    def _reply(self, replies: list[Addressed]) -> None:
        for address, reply, expiry_s in replies:
            topic = self._topics.replies(self._name, address)
            try:
                taken = self._site.publish(topic, pack(reply), expiry_s=expiry_s)
            except PayloadError as error:
                self._note(topic, error)
                taken = False
            if not taken:
                self._metrics.drops.labels(reason="reply_not_sent").inc()

    def _ask(self, region: Region, escalation: Escalation, now_s: float) -> None:
        """Puts questions to the node above; what it cannot be sent is answered here."""
        payload = pack(escalation)
        try:
            taken = region.link.publish(
                region.questions_topic, payload, expiry_s=escalation.budget_ms / 1000
            )
        except PayloadError as error:
            parts = halves(escalation) if error.reason == "too_large" else ()
            if parts:
                for part in parts:
                    self._ask(region, part, now_s)
                return
            self._note(region.questions_topic, error)
            taken = False
        if taken:
            self.pipeline.charge(escalation, len(payload))
        else:
            self._carry_out(self.pipeline.withdraw(escalation, now_s), now_s)

    def _note(self, topic: str, error: PayloadError) -> None:
        """Says and counts that a message can never be sent."""
        log.error("%s: %s", topic, error)
        self._metrics.drops.labels(reason=error.reason).inc()


def _is_workers(address: str, node: str) -> bool:
    """Whether an address is of a worker of a node: none may have another node's replies."""
    return any(address == Worker(index).name(node) for index in range(1, MAX_WORKERS))
