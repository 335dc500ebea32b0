"""Which samples are a worker's: those that the broker deals out to it, or those of its sensors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import Enum, auto

from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.mqtt.shared_subscriptions import SharedProbe, Verdict
from shared.topics import shared_filter
from shared.workers.worker import ALONE, Worker

MAX_WAITING = 10_000

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


class SampleShares:
    """Subscribes a worker to its share of the samples.

    A worker's session outlives it, so that its share comes when it is back. Therefore it also ends
    the subscriptions that an earlier life with another number of workers, or at another broker, may
    have left in it: each sample would come by both.

    Args:
        worker: the worker. One that leaves subscribes to nothing, and takes what still comes.
        group: the name of the shared subscriptions.
        filters: the topic filters of the samples, with their QoS.
        link: the site's broker.
        probe: of the same broker.
        metrics: what is counted.

    Attributes:
        takes_all: whether every sample that comes is to be answered.
    """

    def __init__(
        self,
        *,
        worker: Worker,
        group: str,
        filters: Mapping[str, int],
        link: Link,
        probe: SharedProbe,
        metrics: NodeMetrics,
    ) -> None:
        self.takes_all = False
        self._worker = worker
        self._whole = dict(filters)
        self._dealt = {shared_filter(group, each): qos for each, qos in filters.items()}
        self._link = link
        self._probe = probe
        self._metrics = metrics
        self._sharing = Sharing.UNKNOWN
        self._waiting: list[Message] = []

    def start(self) -> None:
        """Says what to subscribe to, as far as it is known before the broker is."""
        if self._worker.leaves:
            for topic_filter in (*self._whole, *self._dealt):
                self._link.forget(topic_filter)
        if self._worker == ALONE:
            self._become(Sharing.WHOLE)

    def on_connected(self) -> None:
        """Forgets what waited: what was not acknowledged, the broker brings again."""
        self._waiting.clear()

    def take_probe(self, message: Message) -> bool:
        """Takes a message if it is the probe's; returns False if not."""
        return self._probe.take(message)

    def takes(self, sensor: str) -> bool:
        """Whether a sensor's samples are this worker's, where ``takes_all`` does not say so."""
        return self._sharing is Sharing.SPLIT and self._worker.takes(sensor)

    def holds(self, message: Message) -> bool:
        """Keeps a sample while nobody knows yet whose it is; returns False if that is known."""
        if self._sharing is not Sharing.UNKNOWN:
            return False
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(message)
        else:
            self._metrics.drops.labels(reason="sharing_unknown").inc()
            self._link.done(message)
        return True

    def poll(self, now_s: float) -> list[Message]:
        """Carries the probe on; returns the samples that have waited for its verdict.

        Args:
            now_s: monotonic.
        """
        if self._sharing is Sharing.WHOLE:
            return []
        self._probe.poll(now_s)
        sharing = SHARING[self._probe.verdict]
        if sharing is None or sharing is self._sharing:
            return []
        self._become(sharing)
        released, self._waiting = self._waiting, []
        return released

    @property
    def is_settled(self) -> bool:
        """Whether it is known how the samples are shared."""
        return self._sharing is not Sharing.UNKNOWN

    def due_s(self) -> float | None:
        """Returns when ``poll`` is due, monotonic, or None while nothing is open."""
        return None if self._sharing is Sharing.WHOLE else self._probe.due_s()

    def _become(self, sharing: Sharing) -> None:
        self._sharing = sharing
        self.takes_all = sharing is not Sharing.SPLIT
        wanted, others = self._whole, self._dealt
        if sharing is Sharing.DEALT:
            wanted, others = self._dealt, self._whole
        if sharing is not Sharing.WHOLE:
            log.info("samples are %s", WORDS[sharing])
        if self._worker.leaves:
            return
        for topic_filter, qos in wanted.items():
            self._link.subscribe(topic_filter, qos)
        # Only now: between the two a sample may come twice, but none is missed.
        for topic_filter in others:
            self._link.forget(topic_filter)


SHARING: Mapping[Verdict, Sharing | None] = {
    Verdict.UNKNOWN: None,
    Verdict.DELIVERED: Sharing.DEALT,
    Verdict.NOT_DELIVERED: Sharing.SPLIT,
}
WORDS = {
    Sharing.DEALT: "dealt out by the broker",
    Sharing.SPLIT: "split by sensor: the broker does not deliver shared subscriptions",
}
