"""A worker that the node has no place for any more answers what its session holds, and goes."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Sequence

from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.runtime import Node

QUIET_S = 2.0
MAX_STAY_S = 120.0

log = logging.getLogger(__name__)


class Leaving:
    """A node that stops by itself once its session has nothing more for it.

    Args:
        node: the node; it subscribes to nothing new.
        is_idle: whether nothing that it took is unanswered.

    Attributes:
        is_done: whether it stopped for that reason.
    """

    def __init__(self, node: Node, is_idle: Callable[[], bool]) -> None:
        self.is_done = False
        self._node = node
        self._is_idle = is_idle
        self._came_s: float | None = None
        self._last_s = 0.0

    @property
    def links(self) -> Sequence[Link]:
        """The node's."""
        return self._node.links

    def on_connected(self, link: Link) -> None:
        """Waits for what the broker kept."""
        self._node.on_connected(link)

    def on_message(self, link: Link, message: Message, now_s: float) -> None:
        """Hands a message on, and waits for the next."""
        self._last_s = now_s
        self._node.on_message(link, message, now_s)

    def turn(self, now_s: float) -> None:
        """Lets the node work; stops it when it has nothing left to do, or has tried for too long.

        A subscription of an old configuration, which nobody knows any more, may bring samples for
        ever.
        """
        self._node.turn(now_s)
        if not all(link.connected for link in self.links):
            self._came_s = None
            return
        if self._came_s is None:
            self._came_s = self._last_s = now_s
        stays_s, quiet_s = now_s - self._came_s, now_s - self._last_s
        if (quiet_s >= QUIET_S and self._is_idle()) or stays_s >= MAX_STAY_S:
            self._stop(stays_s)

    def next_wake_s(self, now_s: float) -> float:
        """Returns how long nothing is due."""
        return min(self._node.next_wake_s(now_s), QUIET_S)

    def farewell(self) -> None:
        """Says nothing: the node goes on without this worker."""

    def close(self) -> None:
        """Closes the node."""
        self._node.close()

    def _stop(self, stays_s: float) -> None:
        if self.is_done:
            return
        if stays_s >= MAX_STAY_S:
            log.warning("samples still come after %.0f s; they are left", stays_s)
        self.is_done = True
        signal.raise_signal(signal.SIGTERM)
