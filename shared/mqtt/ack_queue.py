"""Acknowledging in the order of arrival, though the work is done out of order."""

from __future__ import annotations

from collections import deque


class AckQueue:
    """Holds back an acknowledgement until all earlier messages are done with.

    MQTT 3.1.1 and 5, [MQTT-4.6.0-2]: a client acknowledges QoS 1 messages in the order in which it
    received them. The receive window of the broker bounds what waits here.
    """

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._waiting: set[int] = set()
        self._done: set[int] = set()

    def __len__(self) -> int:
        return len(self._order)

    def add(self, mid: int) -> None:
        """Notes that a message arrived; one that waits already keeps its place."""
        if mid not in self._waiting:
            self._waiting.add(mid)
            self._order.append(mid)

    def done(self, mid: int) -> list[int]:
        """Notes that a message is done with; returns what may be acknowledged now, in order."""
        self._done.add(mid)
        ready = []
        while self._order and self._order[0] in self._done:
            head = self._order.popleft()
            self._waiting.remove(head)
            self._done.remove(head)
            ready.append(head)
        return ready

    def clear(self) -> None:
        """Forgets all: the broker delivers what was not acknowledged again."""
        self._order.clear()
        self._waiting.clear()
        self._done.clear()
