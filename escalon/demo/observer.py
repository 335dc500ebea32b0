"""Looks on from outside: one more MQTT client, which counts what it sees on the site's topics."""

from __future__ import annotations

import random
import re
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field

import numpy as np

from shared.config import BrokerConfig
from shared.errors import PayloadError
from shared.messages import (
    NodeInfo,
    NodeState,
    Prediction,
    SampleError,
    UpdateReport,
    from_json,
)
from shared.mqtt.link import Link, wait_for_any
from shared.mqtt.message import Message
from shared.topics import Topics

RECENT_S = 3.0
SHOWN_PREDICTIONS = 6
PASSES = re.compile(r", epoch \d+/\d+")
"""Moves in the picture; each as an event would leave room for no other."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A prediction and when it was seen, seconds since 1970."""

    prediction: Prediction
    at: float

    @property
    def latency_ms(self) -> float:
        """From the sensor's own timestamp to here: the same machine, so the same clock.

        Of a sensor that writes text there, what the node says.
        """
        timestamp = self.prediction.timestamp
        if isinstance(timestamp, str):
            return self.prediction.latency_ms
        return (self.at - timestamp) * 1000


@dataclass
class NodeView:
    """What is known of a node."""

    role: str = ""
    online: bool = False
    version: str = "-"
    update: str = ""
    activity: str = ""
    recent: deque[Seen] = field(default_factory=deque)

    def samples_per_s(self, now: float) -> float:
        """Returns the rate of final answers."""
        self._forget(now)
        return len(self.recent) / RECENT_S

    def escalated_share(self) -> float:
        """Returns the share of recent answers that tier-1 did not give by itself, 0 to 1."""
        if not self.recent:
            return 0.0
        return sum(seen.prediction.decided_by != "tier1" for seen in self.recent) / len(self.recent)

    def latency_ms(self, quantile: float) -> float:
        """Returns a quantile of the recent latencies."""
        if not self.recent:
            return 0.0
        return float(np.quantile([seen.latency_ms for seen in self.recent], quantile))

    def _forget(self, now: float) -> None:
        while self.recent and self.recent[0].at < now - RECENT_S:
            self.recent.popleft()


class Observer:
    """Keeps all predictions of a run, and the present state of every node.

    Args:
        broker_url: the broker.
        prefix: first level of the topics.
        site: the site to look at.
        pipeline: the pipeline to look at.
        since: older retained reports are of an earlier run; seconds since 1970.

    Attributes:
        answers: final predictions by sample id, in the order in which they came.
        corrections: how many corrections were seen.
        errors: how many samples were refused.
        bytes: payload bytes by phase and kind (``sensor``, ``escalation``, ``uplink``).
        nodes: by name.
        updates: last report by node and channel.
        events: what happened, oldest first; the owner empties it.
        phase: what is shown now; set by the owner.
    """

    def __init__(
        self, broker_url: str, *, prefix: str, site: str, pipeline: str, since: float
    ) -> None:
        self.answers: dict[str, list[Seen]] = defaultdict(list)
        self.corrections = 0
        self.errors = 0
        self.bytes: dict[str, Counter[str]] = defaultdict(Counter)
        self.nodes: dict[str, NodeView] = defaultdict(NodeView)
        self.updates: dict[tuple[str, str], UpdateReport] = {}
        self.events: deque[str] = deque(maxlen=200)
        self.shown: deque[Seen] = deque(maxlen=SHOWN_PREDICTIONS)
        self.phase = ""
        self._since = since
        self._topics = Topics(prefix, site)
        self._everywhere = Topics(prefix, "+")
        self._pipeline = pipeline
        self._kinds = {"samples": "sensor", "escalations": "escalation", "telemetry": "uplink"}
        self._link = Link(
            BrokerConfig(url=broker_url),
            f"{prefix}-observer-{random.getrandbits(32):08x}",
            persistent=False,
            will=None,
            rng=random.Random(),  # noqa: S311 - jitter
        )

    @property
    def connected(self) -> bool:
        """Whether it sees anything."""
        return self._link.connected

    def start(self) -> None:
        """Says what to look at."""
        topics, everywhere, pipeline = self._topics, self._everywhere, self._pipeline
        for topic_filter in (topics.predictions(pipeline), topics.errors(pipeline)):
            self._link.subscribe(topic_filter)
        for topic_filter in (
            topics.samples(pipeline),
            topics.escalations(pipeline),
            topics.telemetry(),
        ):
            self._link.subscribe(topic_filter, 0)
        for topic_filter in (everywhere.state(), everywhere.info(), everywhere.updates()):
            self._link.subscribe(topic_filter)

    def step(self, wait_s: float) -> None:
        """Takes what has come, waiting for it at most so long."""
        wait_for_any([self._link], wait_s)
        for message in self._link.receive():
            try:
                self._on_message(message)
            except PayloadError as error:
                self.events.append(f"unreadable message on {message.topic}: {error}")
            self._link.done(message)
        self._link.flush()
        self._link.tend(time.monotonic())

    def close(self) -> None:
        """Disconnects."""
        self._link.close()

    def version_reached(self, channel: str, version: str, nodes: int) -> bool:
        """Whether so many nodes have committed this version of a channel."""
        return nodes <= sum(
            (report.channel, report.version, report.state) == (channel, version, "COMMITTED")
            for report in self.updates.values()
        )

    def offered(self, channel: str, version: str) -> bool:
        """Whether a node has seen this version of a channel."""
        return any(
            (report.channel, report.version) == (channel, version)
            for report in self.updates.values()
        )

    def _on_message(self, message: Message) -> None:
        levels = message.topic.split("/")
        if levels[2] == "nodes":
            self._on_node(levels, message.payload)
            return
        kind = levels[2] if levels[2] == "telemetry" else levels[3]
        if kind in self._kinds:
            self.bytes[self.phase][self._kinds[kind]] += len(message.payload)
        elif kind == "predictions":
            self._on_prediction(from_json(message.payload, Prediction))
        elif kind == "errors":
            self.errors += 1
            refusal = from_json(message.payload, SampleError)
            self.events.append(f"{refusal.device_id}: sample refused: {refusal.error}")

    def _on_prediction(self, prediction: Prediction) -> None:
        if prediction.is_correction:
            self.corrections += 1
            return
        seen = Seen(prediction, time.time())
        self.answers[prediction.id].append(seen)
        self.shown.append(seen)
        self.nodes[prediction.node].recent.append(seen)

    def _on_node(self, levels: list[str], payload: bytes) -> None:
        name, kind = levels[3], levels[4]
        if not payload:
            return
        view = self.nodes[name]
        if kind == "state":
            state = from_json(payload, NodeState)
            if view.online != (state.state == "online"):
                self.events.append(f"{name} is {state.state}")
            view.role, view.online = state.role, state.state == "online"
        elif kind == "info":
            self._on_info(view, name, from_json(payload, NodeInfo))
        elif kind == "updates":
            self._on_update(view, from_json(payload, UpdateReport))

    def _on_info(self, view: NodeView, name: str, info: NodeInfo) -> None:
        if info.started < self._since:
            return
        view.role = info.role
        said = PASSES.sub("", info.activity)
        if said and said != PASSES.sub("", view.activity):
            self.events.append(f"{name}: {said}")
        view.activity = info.activity
        for model in info.models.values():
            view.version = f"v{model.version}"

    def _on_update(self, view: NodeView, report: UpdateReport) -> None:
        key = (report.node, report.channel)
        if report.since < self._since or self.updates.get(key) == report:
            return
        self.updates[key] = report
        view.update = report.state
        reason = f" ({report.reason})" if report.reason else ""
        text = f"{report.node}: {report.channel} v{report.version} {report.state}{reason}"
        self.events.append(text)
