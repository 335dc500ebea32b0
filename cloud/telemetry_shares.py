"""Which telemetry is this process's: what the broker deals out to it, or all of it."""

from __future__ import annotations

import logging
import random

from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.mqtt.shared_subscriptions import SharedProbe, Verdict
from shared.topics import Topics, shared_filter

log = logging.getLogger(__name__)


class TelemetryShares:
    """Subscribes to telemetry, shared with the other cloud processes of a group where that works.

    Until the broker has proved that it delivers shared subscriptions, and where it does not, every
    process stores all telemetry: what comes twice is stored once.

    Args:
        topics: of this node.
        node: its name.
        group: of processes that share.
        link: the cloud's broker.
        rng: makes what the probe sends unlike anybody else's.
    """

    def __init__(
        self, topics: Topics, node: str, group: str, link: Link, rng: random.Random
    ) -> None:
        self._plain = Topics(topics.prefix, "+").telemetry()
        self._shared = shared_filter(group, self._plain)
        self._link = link
        shared_topic, plain_topic = topics.probe(node, "shared"), topics.probe(node, "plain")
        self._probe = SharedProbe(link, shared_topic, plain_topic, rng)
        self._verdict = Verdict.UNKNOWN

    def start(self) -> None:
        """Says what to subscribe to until more is known."""
        self._probe.start()
        self._link.subscribe(self._plain)

    def take(self, message: Message) -> bool:
        """Takes a message if it is the probe's; returns False if not."""
        return self._probe.take(message)

    def poll(self, now_s: float) -> None:
        """Finds out more, and subscribes anew when there is another verdict.

        Args:
            now_s: monotonic.
        """
        self._probe.poll(now_s)
        verdict, before = self._probe.verdict, self._verdict
        if verdict is before:
            return
        self._verdict = verdict
        if verdict is Verdict.DELIVERED:
            self._replace(self._plain, self._shared)
            log.info("telemetry is shared with the other processes of the group")
        elif before is Verdict.DELIVERED:
            self._replace(self._shared, self._plain)
        if verdict is Verdict.NOT_DELIVERED:
            log.warning(
                "every cloud process stores all telemetry: the broker does not deliver shared "
                "subscriptions"
            )

    def due_s(self) -> float | None:
        """Returns when ``poll`` is due, monotonic, or None while nothing is open."""
        return self._probe.due_s()

    def _replace(self, old: str, new: str) -> None:
        self._link.subscribe(new)
        # Only now: between the two a message may come twice, but none is missed.
        self._link.unsubscribe(old)
