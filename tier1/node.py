"""A tier-1 node: joins its pipelines to the site's broker."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from shared.cascade.backlog import Backlog
from shared.cascade.halves import halves
from shared.errors import PayloadError
from shared.messages import Escalation, Reply, pack, unpack
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.presence import Presence
from shared.runtime import BUSY_WAIT_S, IDLE_WAIT_S, deliver
from shared.serving import NodeModels
from shared.spool import Spool, SpoolLimits
from shared.workers.worker import ALONE, Worker
from tier1.config import Tier1Config, Tier1PipelineConfig
from tier1.deliveries import Deliveries
from tier1.intake import Intake
from tier1.lane import Lane
from tier1.outlet import Outlet
from tier1.pipeline import Outcome, Tier1Pipeline
from tier1.shares import SampleShares, make_shares
from tier1.watch_file import WatchFile

INFER_S = 0.005

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
        worker: which of the node's processes this is.
    """

    def __init__(
        self,
        config: Tier1Config,
        link: Link,
        metrics: NodeMetrics,
        presence: Presence,
        *,
        rng: random.Random,
        wake: Callable[[], None],
        worker: Worker = ALONE,
    ) -> None:
        self._config = config
        self._worker = worker
        self._name = worker.name(config.node)
        self._link = link
        self._topics = config.topics
        self._metrics = metrics
        self._presence = presence
        self._lanes = {
            name: self._make_lane(name, pipeline, rng, wake)
            for name, pipeline in config.pipelines.items()
        }
        self._deliveries = Deliveries()
        self._intake = Intake(
            self._lanes.values(), link, self._deliveries, metrics, config.broker.max_packet_bytes
        )
        self._outlet = Outlet(link, self._deliveries, metrics, self._intake.tell)
        self._replies = {
            self._topics.replies(name, self._name): lane for name, lane in self._lanes.items()
        }
        self._was_ready = False
        self._shares = self._make_shares(rng)
        self._models = NodeModels(
            config=config,
            pipelines=config.pipelines,
            slots={name: lane.pipeline.slot for name, lane in self._lanes.items()},
            link=link,
            metrics=metrics,
            presence=presence,
            worker=worker,
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
        self._presence.watch(self._link)
        for name, lane in self._lanes.items():
            left = (self._backlog_path(name, gone) for gone in self._worker.departed)
            lane.backlog.start(left)
            lane.watch_file.start()
            # QoS 0, as all but samples: a reply must come even while unanswered samples fill the
            # receive window, and needs no acknowledgement behind theirs.
            self._link.subscribe(self._topics.replies(name, self._name), 0)
            log.info("%s: samples come on %s", name, ", ".join(lane.filters))
        self._shares.start()

    def on_connected(self, link: Link) -> None:
        """Publishes birth and info, reconciles releases."""
        self._intake.on_connected()
        self._shares.on_connected()
        self._models.on_connected(time.monotonic())

    def on_message(self, link: Link, message: Message, now_s: float) -> None:
        """Hands a message to whom its topic names."""
        route = self._intake.find(message.topic)
        if route is not None:
            if self._shares.takes_all:
                self._intake.take(*route, message, now_s)
            else:
                self._take_if_ours(*route, message, now_s)
        elif message.topic in self._replies:
            self._on_reply(self._replies[message.topic], message, now_s)
        elif self._is_ours(message, now_s) or self._models.take(message, now_s):
            self._link.done(message)
        else:
            self._intake.drop(message, "bad_topic")

    def turn(self, now_s: float) -> None:
        """Batch → infer → gate → publish, deadlines, then all that can wait."""
        for message in self._shares.poll(now_s):
            deliver(self, self._link, message, now_s, self._metrics.drops)
        self._intake.tell_skipped(self._is_ours_to_answer)
        self._outlet.poll()
        for lane in self._lanes.values():
            self._infer(lane)
            if lane.pipeline.asks:
                self._outlet.publish(lane, lane.pipeline.expire(now_s))
            lane.say_whether_tier2_answers()
        self._link.flush()
        for lane in self._lanes.values():
            self._send_backlog(lane, now_s)
            lane.watch_file.poll(now_s)
        self._outlet.count(now_s)
        self._intake.poll()
        self._models.poll(now_s)
        self._show_ready()

    def next_wake_s(self, now_s: float) -> float:
        """Returns how long nothing is due."""
        if self._models.busy:
            return BUSY_WAIT_S
        parts = [part for lane in self._lanes.values() for part in (lane.pipeline, lane.backlog)]
        due = [self._shares.due_s(), *(part.due_s() for part in parts)]
        return min((due_s - now_s for due_s in due if due_s is not None), default=IDLE_WAIT_S)

    def farewell(self) -> None:
        """Says that the node leaves."""
        self._models.farewell()
        self._presence.farewell(self._link)

    def close(self) -> None:
        """Ends updates and inference under way, puts what is left of the backlog on the disk."""
        self._models.close()
        self._outlet.close()
        for lane in self._lanes.values():
            lane.pipeline.close()
            lane.watch_file.save()
            if self._worker.leaves:
                lane.backlog.abandon()
            lane.backlog.close()

    @property
    def idle(self) -> bool:
        """Whether a worker that leaves has answered all that its session held."""
        return self._shares.is_drained and not len(self._deliveries)

    def _show_ready(self) -> None:
        """Says whether samples that come are answered."""
        models = [lane.pipeline.slot.model for lane in self._lanes.values()]
        ready = self._link.connected and self._shares.is_known and None not in models
        if ready is not self._was_ready:
            self._was_ready = ready
            self._metrics.ready.set(ready)

    def _is_ours(self, message: Message, now_s: float) -> bool:
        """Takes what this node said to itself, or another in its name; returns False for others."""
        return self._shares.take_probe(message) or self._presence.on_state(
            self._link, message, now_s
        )

    def _is_ours_to_answer(self, sensor: str) -> bool:
        return self._shares.takes_all or self._shares.takes(sensor)

    def _take_if_ours(self, lane: Lane, sensor: str, message: Message, now_s: float) -> None:
        """Takes a sample where not every one that comes is this worker's."""
        if self._shares.holds(message):
            return
        if self._shares.takes(sensor):
            self._intake.take(lane, sensor, message, now_s)
        else:
            self._link.done(message)

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
        """Runs batch after batch until none is due, or what is decided has waited long enough.

        A deadline runs from the moment that a question is written, so it must leave soon.
        """
        pipeline, ends_s = lane.pipeline, time.monotonic() + INFER_S
        while True:
            for taken, error in pipeline.run(time.monotonic()):
                self._intake.refuse(lane, taken, error)
            outcome = pipeline.gate(
                time.monotonic(),
                reachable=self._link.connected,
                keeps=not lane.backlog.full,
            )
            if outcome is not None:
                self._carry_out(lane, outcome)
            if outcome is None or not pipeline.waiting or time.monotonic() >= ends_s:
                return

    def _carry_out(self, lane: Lane, outcome: Outcome) -> None:
        self._outlet.publish(lane, outcome.answers)
        for questions in outcome.unasked:
            lane.keep(questions)
        for escalation in outcome.escalations:
            self._ask(lane, escalation)

    def _ask(self, lane: Lane, escalation: Escalation) -> None:
        """Puts questions to tier-2; what it cannot be sent is answered here."""
        try:
            taken = self._hand_over(lane, escalation)
        except PayloadError as error:
            parts = halves(escalation) if error.reason == "too_large" else ()
            if parts:
                for part in parts:
                    self._ask(lane, part)
                return
            self._note_unsendable(lane, error)
            taken = False
        if not taken:
            self._carry_out(lane, lane.pipeline.withdraw(escalation, time.monotonic()))

    def _hand_over(self, lane: Lane, escalation: Escalation) -> bool:
        """Hands questions to the link; returns False if it does not take them now.

        Raises:
            PayloadError: it never will.
        """
        topic = self._topics.escalations(lane.pipeline.name, self._config.node)
        expiry_s = None if escalation.backlog else escalation.budget_ms / 1000
        message = pack(escalation)
        taken = self._link.publish(topic, message, expiry_s=expiry_s)
        if taken:
            lane.pipeline.charge(escalation, len(message))
        return taken

    def _note_unsendable(self, lane: Lane, error: PayloadError) -> None:
        log.error("questions of %s can never be sent: %s", lane.pipeline.name, error)
        self._metrics.drops.labels(reason=f"escalation_{error.reason}").inc()

    def _send_backlog(self, lane: Lane, now_s: float) -> None:
        """Puts what could not be asked on the disk, and sends of it while tier-2 has time."""
        lane.backlog.poll(now_s)
        idle = self._link.connected and lane.pipeline.quiet(now_s)
        late = lane.backlog.next(now_s, idle=idle)
        if late is None:
            return
        try:
            self._hand_over(lane, late)
        except PayloadError as error:
            self._note_unsendable(lane, error)
            lane.backlog.discard(late)

    # Parts

    def _make_lane(
        self,
        name: str,
        config: Tier1PipelineConfig,
        rng: random.Random,
        wake: Callable[[], None],
    ) -> Lane:
        node, limits = self._config.node, config.escalation.backlog
        path = self._backlog_path(name, self._worker)
        pipeline = Tier1Pipeline(
            name=name,
            node=node,
            reply_to=self._name,
            config=config,
            rng=rng,
            metrics=self._metrics,
            wake=wake,
        )
        backlog = Backlog(
            node=node,
            pipeline=name,
            reply_to=self._name,
            config=config.escalation,
            spool=Spool(path, SpoolLimits(limits.max_bytes, limits.max_age_s)),
            rng=rng,
            metrics=self._metrics,
        )
        return Lane(
            pipeline,
            config,
            self._topics,
            self._metrics,
            sample_topic=self._config.sample_topic(name),
            backlog=backlog,
            watch_file=WatchFile(self._own_path("certificates", f"{name}.watch"), pipeline.watch),
            receiver=self._name,
        )

    def _backlog_path(self, pipeline: str, worker: Worker) -> Path:
        """Returns where a worker's backlog is. One that leaves comes back to none."""
        if worker.leaves and worker == self._worker:
            return Path(":memory:")
        return self._config.state_dir / worker.file_name("backlog") / f"{pipeline}.sqlite"

    def _own_path(self, folder: str, name: str) -> Path:
        """Returns where this worker keeps a file of its own."""
        return self._config.state_dir / self._worker.file_name(folder) / name

    def _make_shares(self, rng: random.Random) -> SampleShares:
        return make_shares(
            self._worker,
            self._config,
            filters={each: lane.qos for lane in self._lanes.values() for each in lane.filters},
            link=self._link,
            metrics=self._metrics,
            seed=rng.getrandbits(63),
        )
