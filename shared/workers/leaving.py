"""A worker that the node has no place for any more answers what its session holds, and goes."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Sequence

from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.runtime import Node

QUIET_S = 2.0
MAX_STILL_S = 120.0

log = logging.getLogger(__name__)


class Leaving:
    """A node that stops by itself once its session has nothing more for it.

    It also stops when something is left and nothing has moved for a long time. The session then
    stays as it is, and the next start tries again.

    Args:
        node: the node; it subscribes to nothing new.
        is_idle: whether nothing that it took, or that waits for it, is unanswered.

    Attributes:
        is_done: whether nothing is left.
    """

    def __init__(self, node: Node, is_idle: Callable[[], bool]) -> None:
        self.is_done = False
        self._node = node
        self._is_idle = is_idle
        self._moved_s: float | None = None
        self._left = 0
        self._stopping = False

    @property
    def links(self) -> Sequence[Link]:
        """The node's."""
        return self._node.links

    def on_connected(self, link: Link) -> None:
        """Waits for what the broker kept."""
        self._node.on_connected(link)

    def on_message(self, link: Link, message: Message, now_s: float) -> None:
        """Hands a message on, and waits for the next."""
        self._moved_s = now_s
        self._node.on_message(link, message, now_s)

    def turn(self, now_s: float) -> None:
        """Lets the node work; stops it when nothing is left, or nothing moves any more."""
        self._node.turn(now_s)
        if not all(link.connected for link in self.links):
            self._moved_s = None
            return
        left = sum(link.unacknowledged for link in self.links)
        if self._moved_s is None or left != self._left:
            self._moved_s, self._left = now_s, left
        still_s = now_s - self._moved_s
        is_idle = not left and self._is_idle()
        if still_s >= (QUIET_S if is_idle else MAX_STILL_S):
            self._stop(is_done=is_idle, still_s=still_s)

    def next_wake_s(self, now_s: float) -> float:
        """Returns how long nothing is due."""
        return min(self._node.next_wake_s(now_s), QUIET_S)

    def farewell(self) -> None:
        """Says nothing: the node goes on without this worker."""

    def close(self) -> None:
        """Closes the node."""
        self._node.close()

    def _stop(self, *, is_done: bool, still_s: float) -> None:
        if self._stopping:
            return
        if not is_done:
            log.error(
                "nothing has moved for %.0f s; %d messages are unanswered, left to the next start",
                still_s,
                self._left,
            )
        self.is_done, self._stopping = is_done, True
        signal.raise_signal(signal.SIGTERM)
