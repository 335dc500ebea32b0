"""Which samples are a worker's: those that the broker deals out to it, or those of its sensors."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from enum import Enum, auto

from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.mqtt.milestone import Milestone
from shared.mqtt.shared_subscriptions import Verdict
from shared.topics import shared_filter
from shared.workers.session_record import RememberedSession, SessionRecord, SessionState
from shared.workers.verdicts import Verdicts, make_verdicts
from shared.workers.worker import ALONE, Worker
from tier1.config import Tier1Config
from tier1.handover import EVERYTHING, Handover

MAX_WAITING = 10_000
MAX_WAITING_BYTES = 2**25

log = logging.getLogger(__name__)


class Sharing(Enum):
    """How the samples are shared among the workers."""

    UNKNOWN = auto()
    """Not known yet: what comes waits."""
    WHOLE = auto()
    """Not at all: there is one process."""
    DEALT = auto()
    """The broker deals them out (a shared subscription, MQTT 5, section 4.8.2)."""
    SPLIT = auto()
    """All get everything, and each answers its own sensors."""
    LEFT = auto()
    """Not any more: the worker leaves, and answers what its session holds."""


class SampleShares:
    """Subscribes a worker to its share of the samples.

    A worker's session outlives it, so that its share comes when it is back. Therefore it also ends
    the subscriptions that an earlier life with other sensors, another number of workers, or at
    another broker, has left in it: each sample would come by both.

    Args:
        worker: the worker. One that leaves subscribes to nothing, and takes what still comes.
        group: the name of the shared subscriptions.
        filters: the topic filters of the samples, with their QoS.
        link: the site's broker.
        verdicts: whence it knows whether that delivers shared subscriptions.
        session: what is remembered of the session.
        handover: knows whose a sample is.
        milestone: comes when all is answered that the session held.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        worker: Worker,
        group: str,
        filters: Mapping[str, int],
        link: Link,
        verdicts: Verdicts,
        session: RememberedSession,
        handover: Handover,
        milestone: Milestone,
        metrics: NodeMetrics,
    ) -> None:
        self._worker = worker
        self._whole = dict(filters)
        self._dealt = {shared_filter(group, each): qos for each, qos in filters.items()}
        self._wanted: Mapping[str, int] = {}
        self._link = link
        self._verdicts = verdicts
        self._session = session
        self._handover = handover
        self._milestone = milestone
        self._metrics = metrics
        self._sharing = Sharing.UNKNOWN
        self._asks = False
        self._waiting: list[Message] = []
        self._waiting_bytes = 0
        self._deferred = 0

    def start(self) -> None:
        """Says what to subscribe to, as far as it is known before the broker is."""
        self._session.start()
        self._verdicts.start()
        if self._worker.leaves:
            self._leave()
        elif self._worker == ALONE:
            self._become(Sharing.WHOLE)

    def on_connected(self) -> None:
        """Notes that the broker brings again what was left to it."""
        self._deferred = 0
        self._session.on_connected()

    def take_probe(self, message: Message) -> bool:
        """Takes a message if this process sent it to itself; returns False if not."""
        return self._verdicts.take(message) or self._milestone.take(message)

    @property
    def takes_all(self) -> bool:
        """Whether every sample that comes is to be answered."""
        return self._handover.takes_all

    def takes(self, sensor: str) -> bool:
        """Whether a sensor's samples are this worker's, where ``takes_all`` does not say so."""
        return self._handover.takes(sensor)

    def holds(self, message: Message) -> bool:
        """Keeps or leaves a sample while nobody knows whose it is; returns False if that is known.

        The broker keeps what it must have acknowledged. What it does not keep waits here.
        """
        if self._sharing is not Sharing.UNKNOWN:
            return False
        size = len(message.payload)
        if message.qos:
            self._deferred += 1
            self._metrics.deferrals.inc()
        elif len(self._waiting) < MAX_WAITING and self._waiting_bytes + size <= MAX_WAITING_BYTES:
            self._waiting.append(message)
            self._waiting_bytes += size
        else:
            self._metrics.drops.labels(reason="sharing_unknown").inc()
        return True

    def poll(self, now_s: float) -> list[Message]:
        """Finds out how samples are shared; returns those that have waited for that.

        Args:
            now_s: monotonic.
        """
        if self._sharing is Sharing.WHOLE and not self._asks:
            return []
        self._milestone.poll()
        if self._sharing is Sharing.LEFT:
            if not self._milestone.begun and self._link.confirmed:
                self._milestone.begin()
            return []
        if self._sharing is not Sharing.WHOLE:
            self._look_at_verdict(now_s)
        if self._asks and self._link.confirmed:
            self._note_answers()
        self._handover.poll(now_s)
        return self._release()

    @property
    def is_known(self) -> bool:
        """Whether it is known how the samples are shared."""
        return self._sharing is not Sharing.UNKNOWN

    @property
    def is_drained(self) -> bool:
        """Whether the session of a worker that leaves holds nothing any more."""
        return self._sharing is Sharing.LEFT and self._milestone.passed

    def due_s(self) -> float | None:
        """Returns when ``poll`` is due, monotonic, or None while nothing is open."""
        if self._sharing is Sharing.LEFT:
            return None
        verdict_s = None if self._sharing is Sharing.WHOLE else self._verdicts.due_s()
        due = [each for each in (verdict_s, self._handover.due_s()) if each is not None]
        return min(due, default=None)

    def _look_at_verdict(self, now_s: float) -> None:
        self._verdicts.poll(now_s)
        sharing = SHARING[self._verdicts.verdict]
        if sharing not in (Sharing.UNKNOWN, self._sharing):
            self._become(sharing)

    def _become(self, sharing: Sharing) -> None:
        self._sharing, self._asks = sharing, True
        wanted = self._wanted = self._dealt if sharing is Sharing.DEALT else self._whole
        before = self._session.state
        known = {*before.filters, *wanted}
        # Before it subscribes: what is not written down is never ended.
        self._remember(known, is_confirmed=before.confirmed and known == {*wanted})
        self._handover.begin(
            self._worker.count if sharing is Sharing.SPLIT else EVERYTHING, filters=wanted
        )
        for topic_filter, qos in wanted.items():
            self._link.subscribe(topic_filter, qos)
        # Only now: between the two a sample may come twice, but none is missed.
        self._end({*self._whole, *self._dealt, *before.filters} - {*wanted})

    def _note_answers(self) -> None:
        """Notes that the broker has answered every subscription, and every end of one."""
        self._asks = False
        self._remember({*self._wanted}, is_confirmed=True)
        if self._sharing is not Sharing.WHOLE:
            log.info("samples are %s", WORDS[self._sharing])

    def _leave(self) -> None:
        self._sharing = Sharing.LEFT
        self._handover.leave()
        self._end({*self._whole, *self._dealt, *self._session.state.filters})

    def _end(self, filters: set[str]) -> None:
        for topic_filter in sorted(filters):
            self._link.forget(topic_filter)

    def _remember(self, filters: set[str], *, is_confirmed: bool) -> None:
        counts = self._session.state.counts
        self._session.remember(SessionState(tuple(sorted(filters)), is_confirmed, counts))

    def _release(self) -> list[Message]:
        """Returns what waited, and has the broker bring again what was left to it."""
        if self._sharing is Sharing.UNKNOWN:
            return []
        if self._deferred and self._link.connected:
            log.info("connecting anew to have %d samples that came too early", self._deferred)
            self._deferred = 0
            self._link.restart()
        released, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return released


def make_shares(
    worker: Worker,
    config: Tier1Config,
    *,
    filters: Mapping[str, int],
    link: Link,
    metrics: NodeMetrics,
    seed: int,
) -> SampleShares:
    """Makes a worker's shares, with what they go by.

    Args:
        worker: the worker.
        config: the node.
        filters: the topic filters of the samples, with their QoS.
        link: the site's broker.
        metrics: what is counted.
        seed: of what it sends to itself.
    """
    folder, url, topics = config.state_dir, config.broker.url, config.topics
    name = worker.name(config.node)
    rng = random.Random(seed)  # noqa: S311 - a nonce, not a secret
    session = RememberedSession(SessionRecord(folder, worker, url))
    milestone = Milestone(link, topics.probe(name, "session"), rng)
    others = [
        SessionRecord(folder, Worker(index, worker.count), url) for index in range(worker.count)
    ]
    return SampleShares(
        worker=worker,
        group=config.node,
        filters=filters,
        link=link,
        verdicts=make_verdicts(worker, name, link, topics, folder=folder, url=url, rng=rng),
        session=session,
        handover=Handover(worker, session, others, milestone),
        milestone=milestone,
        metrics=metrics,
    )


SHARING: Mapping[Verdict, Sharing] = {
    Verdict.UNKNOWN: Sharing.UNKNOWN,
    Verdict.DELIVERED: Sharing.DEALT,
    Verdict.NOT_DELIVERED: Sharing.SPLIT,
}
WORDS = {
    Sharing.DEALT: "dealt out by the broker",
    Sharing.SPLIT: "split by sensor: the broker does not deliver shared subscriptions",
}
