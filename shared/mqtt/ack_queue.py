"""Acknowledging in the order of arrival, though the work is done out of order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


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

    def __contains__(self, mid: int) -> bool:
        """Whether a message is still to be acknowledged."""
        return mid in self._waiting

    def add(self, mids: Iterable[int]) -> None:
        """Notes that messages arrived; one that waits already keeps its place."""
        waiting, place = self._waiting, self._order.append
        for mid in mids:
            if mid not in waiting:
                waiting.add(mid)
                place(mid)

    def done(self, mid: int) -> list[int]:
        """Notes that a message is done with; returns what may be acknowledged now, in order.

        One that does not wait releases nothing: its number may be another message's by now.
        """
        waiting = self._waiting
        if mid not in waiting:
            return []
        order, done = self._order, self._done
        if order[0] != mid:
            done.add(mid)
            return []
        order.popleft()
        waiting.remove(mid)
        ready = [mid]
        while done and order and order[0] in done:
            head = order.popleft()
            waiting.remove(head)
            done.remove(head)
            ready.append(head)
        return ready

    def clear(self) -> None:
        """Forgets all: the broker delivers what was not acknowledged again."""
        self._order.clear()
        self._waiting.clear()
        self._done.clear()
