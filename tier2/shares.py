"""Which escalations are this process's: those that the broker deals out to it, or all of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.mqtt.shared_subscriptions import Verdict
from shared.topics import shared_filter
from shared.workers.verdicts import Verdicts
from shared.workers.worker import Worker

log = logging.getLogger(__name__)


class EscalationShares:
    """Subscribes to escalations, shared with the other nodes of the group where that works.

    Until the broker has proved that it delivers shared subscriptions, and where it does not, every
    node gets every question and answers it: who asked takes the first answer. The workers of one
    node divide the asking nodes among them then.

    Args:
        groups: the name of the group, by the topic filter of its escalations.
        link: the site's broker.
        verdicts: whence it knows whether that delivers shared subscriptions.
        worker: which of the node's processes this is.
    """

    def __init__(
        self, groups: Mapping[str, str], link: Link, verdicts: Verdicts, worker: Worker
    ) -> None:
        self._plain = tuple(groups)
        self._shared = tuple(shared_filter(group, each) for each, group in groups.items())
        self._link = link
        self._verdicts = verdicts
        self._worker = worker
        self._verdict = Verdict.UNKNOWN

    @property
    def remark(self) -> str:
        """What is to be known of it beside the node's work; empty if nothing."""
        if self._verdict is not Verdict.NOT_DELIVERED:
            return ""
        return "answers every escalation: the broker does not deliver shared subscriptions"

    def start(self) -> None:
        """Says what to subscribe to until more is known; nothing for a worker that leaves."""
        if not self._worker.leaves:
            self._verdicts.start()
            self._replace((), self._plain)

    def take_probe(self, message: Message) -> bool:
        """Takes a message if it is the probe's; returns False if not."""
        return self._verdicts.take(message)

    def takes(self, node: str) -> bool:
        """Whether this process answers the questions that come of a node."""
        return self._verdict is Verdict.DELIVERED or self._worker.takes(node)

    def poll(self, now_s: float) -> None:
        """Finds out more, and subscribes anew when there is another verdict.

        Args:
            now_s: monotonic.
        """
        if self._worker.leaves:
            return
        self._verdicts.poll(now_s)
        verdict, before = self._verdicts.verdict, self._verdict
        if verdict is before:
            return
        self._verdict = verdict
        if verdict is Verdict.DELIVERED:
            self._replace(self._plain, self._shared)
            log.info("escalations are shared with the other nodes of the group")
        else:
            if before is Verdict.DELIVERED:
                self._replace(self._shared, self._plain)
            log.warning("this node %s", self.remark)

    def due_s(self) -> float | None:
        """Returns when ``poll`` is due, monotonic, or None while nothing is open."""
        return None if self._worker.leaves else self._verdicts.due_s()

    def _replace(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        for topic_filter in new:
            self._link.subscribe(topic_filter)
        # Only now: between the two a question may come twice, but none is missed.
        for topic_filter in old:
            self._link.unsubscribe(topic_filter)
