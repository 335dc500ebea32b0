"""Puts items together into batches. Pure: the time comes in."""

from __future__ import annotations

import math
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Hands out a batch when it is full, or when its first item has waited long enough.

    Waiting for company pays only under load: an item that comes when no batch was handed out for
    ``max_delay_s`` does not wait at all.

    Args:
        max_batch_size: at most so many samples a batch; a larger item makes a batch of its own.
        max_delay_s: how long the first item may wait for company; 0 hands out what is there.
        queue_size: at most so many samples wait.
    """

    def __init__(self, max_batch_size: int, max_delay_s: float, queue_size: int) -> None:
        self._max_batch_size = max_batch_size
        self._max_delay_s = max_delay_s
        self._queue_size = queue_size
        self._items: deque[tuple[Item, int, float]] = deque()
        self._size = 0
        self._last_batch_s = -math.inf

    def __len__(self) -> int:
        """Returns how many samples wait."""
        return self._size

    def add(self, item: Item, now_s: float, size: int = 1, spare: int = 0) -> bool:
        """Queues an item; returns False if the queue is full and it was not taken.

        Args:
            item: what is to be handed out.
            now_s: monotonic.
            size: how many samples it is.
            spare: so many more may wait for this item's sake.
        """
        if self._size + size > self._queue_size + spare:
            return False
        idle = not self._items and now_s - self._last_batch_s >= self._max_delay_s
        self._items.append((item, size, now_s if idle else now_s + self._max_delay_s))
        self._size += size
        return True

    def drop_oldest(self) -> Item | None:
        """Takes the item out that has waited longest; None if nothing waits."""
        if not self._items:
            return None
        item, size, _ = self._items.popleft()
        self._size -= size
        return item

    def poll(self, now_s: float) -> list[Item]:
        """Returns the next batch, oldest items first, or an empty list if none is due."""
        items = self._items
        if not items or (self._size < self._max_batch_size and now_s < items[0][2]):
            return []
        batch: list[Item] = []
        taken = 0
        while items and (not batch or taken + items[0][1] <= self._max_batch_size):
            item, size, _ = items.popleft()
            batch.append(item)
            taken += size
        self._size -= taken
        self._last_batch_s = now_s
        return batch

    def due_s(self) -> float | None:
        """Returns when the next batch is due at the latest, or None if nothing waits."""
        return self._items[0][2] if self._items else None
