"""When a node has its broker deliver the retained manifest of a channel once more."""

from __future__ import annotations

from collections.abc import Callable

from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.releases.complaints import Complaints
from shared.releases.journal import Journal

RECONCILE_S = 300.0
MAX_DOUBLINGS = 6


class Reconciliation:
    """Asks for what is retained, now and then, and says if it has been the same for too long.

    At QoS 0: a QoS 1 message would have to be acknowledged behind the samples that still wait for
    their answers. What QoS 0 may lose, the next time brings.

    Args:
        link: the broker.
        topic: of the channel's manifest.
        channel: the channel.
        journal: its record.
        utc_s: seconds since 1970, never earlier than is known for sure.
        metrics: shows that what was accepted has expired.
        complaints: says so.
    """

    def __init__(
        self,
        link: Link,
        topic: str,
        *,
        channel: str,
        journal: Journal,
        utc_s: Callable[[], float],
        metrics: NodeMetrics,
        complaints: Complaints,
    ) -> None:
        self._link = link
        self._topic = topic
        self._channel = channel
        self._journal = journal
        self._utc_s = utc_s
        self._metrics = metrics
        self._complaints = complaints
        self._due_s = 0.0
        self._failures = 0

    def poll(self, now_s: float) -> None:
        """Asks if it is time to."""
        if now_s >= self._due_s:
            self.ask(now_s)

    def ask(self, now_s: float) -> None:
        """Asks now."""
        self._due_s = now_s + RECONCILE_S
        self._say_if_stale()
        self._link.subscribe(self._topic, 0)

    def ask_later(self, now_s: float) -> None:
        """Notes a failure: what fails again and again is asked for ever more seldom."""
        self._due_s = now_s + RECONCILE_S * 2 ** min(self._failures, MAX_DOUBLINGS)
        self._failures += 1

    def forget_failures(self) -> None:
        """Notes that what comes next has not failed yet."""
        self._failures = 0

    def _say_if_stale(self) -> None:
        """Says that nothing new was signed for too long: something may withhold it."""
        expires = self._journal.record.expires
        stale = expires is not None and expires <= self._utc_s()
        self._metrics.release_stale.labels(channel=self._channel).set(stale)
        if stale:
            self._complaints.say(
                "the newest manifest that came has expired: nothing newer was published, or "
                "something withholds it. What runs goes on running"
            )
