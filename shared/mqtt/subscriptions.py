"""What a link is subscribed to, and what it is no longer, now and at every connection."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from shared.mqtt.wire import Wire

log = logging.getLogger(__name__)


class Subscriptions:
    """The subscriptions of one link.

    Args:
        wire: carries the packets.
        url: the broker, for the log.
    """

    def __init__(self, wire: Wire, url: str) -> None:
        self._wire = wire
        self._url = url
        self._connected = False
        self._standing: dict[str, int] = {}
        self._ended: set[str] = set()
        self._asked: dict[int | None, str] = {}

    def add(self, topic_filter: str, qos: int) -> None:
        """Subscribes now, and again at every connection."""
        self._standing[topic_filter] = qos
        self._ended.discard(topic_filter)
        if self._connected:
            self._subscribe(topic_filter, qos)

    def end(self, topic_filter: str) -> None:
        """Ends a subscription; of an unknown one, nothing.

        Without a connection it ends at the next one: a persistent session would go on to bring what
        it is no longer asked for.
        """
        if self._standing.pop(topic_filter, None) is not None:
            self.forget(topic_filter)

    def forget(self, topic_filter: str) -> None:
        """Ends a subscription that an earlier process may have left in the session."""
        self._standing.pop(topic_filter, None)
        self._ended.add(topic_filter)
        if self._connected:
            self._unsubscribe(topic_filter)

    def connected(self, *, present: bool) -> None:
        """Renews what stands on a new connection.

        Args:
            present: whether the broker kept our session, and with it what has ended meanwhile.
        """
        self._connected = True
        self._asked.clear()
        if not present:
            self._ended.clear()
        for topic_filter, qos in self._standing.items():
            self._subscribe(topic_filter, qos)
        for topic_filter in self._ended:
            self._unsubscribe(topic_filter)

    @property
    def open(self) -> bool:
        """Whether the broker has yet to answer a subscription, or the end of one."""
        return bool(self._asked)

    def lost(self) -> None:
        """Notes that the connection has ended."""
        self._connected = False

    def answered(self, mid: int, codes: Iterable[Any]) -> None:
        """Takes a SUBACK: a broker may refuse a subscription, and says nothing more."""
        topic_filter = self._asked.pop(mid, "")
        for code in codes:
            if code.is_failure:
                log.error("%s refuses the subscription to %s: %s", self._url, topic_filter, code)

    def ended(self, mid: int) -> None:
        """Takes an UNSUBACK."""
        self._ended.discard(self._asked.pop(mid, ""))

    def _subscribe(self, topic_filter: str, qos: int) -> None:
        self._asked[self._wire.subscribe(topic_filter, qos)] = topic_filter

    def _unsubscribe(self, topic_filter: str) -> None:
        self._asked[self._wire.unsubscribe(topic_filter)] = topic_filter
