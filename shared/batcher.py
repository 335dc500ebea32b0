"""Puts single items together into batches. Pure: the time comes in."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Hands out a batch when it is full, or when its first item has waited long enough.

    Args:
        max_batch_size: at most so many items a batch.
        max_delay_s: how long the first item may wait for company; 0 hands out what is there.
        queue_size: at most so many items wait.
    """

    def __init__(self, max_batch_size: int, max_delay_s: float, queue_size: int) -> None:
        self._max_batch_size = max_batch_size
        self._max_delay_s = max_delay_s
        self._queue_size = queue_size
        self._items: deque[Item] = deque()
        self._due: deque[float] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Item, now_s: float) -> bool:
        """Queues an item; returns False if the queue is full and it was not taken."""
        if len(self._items) >= self._queue_size:
            return False
        self._items.append(item)
        self._due.append(now_s + self._max_delay_s)
        return True

    def poll(self, now_s: float) -> list[Item]:
        """Returns the next batch, oldest items first, or an empty list if none is due."""
        if not self._items:
            return []
        if len(self._items) < self._max_batch_size and now_s < self._due[0]:
            return []
        size = min(self._max_batch_size, len(self._items))
        for _ in range(size):
            self._due.popleft()
        return [self._items.popleft() for _ in range(size)]

    def due_s(self) -> float | None:
        """Returns when the next batch is due at the latest, or None if nothing waits."""
        return self._due[0] if self._due else None
