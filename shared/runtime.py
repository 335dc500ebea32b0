"""The one loop that owns a node, and what every role does in it: signals, birth, farewell, info."""

from __future__ import annotations

import logging
import random
import signal
import time
from collections.abc import Sequence
from types import FrameType
from typing import Protocol

from prometheus_client import Counter

from shared.config import BrokerConfig, NodeConfig
from shared.messages import to_json
from shared.mqtt.link import Link, wait_for_any
from shared.mqtt.message import Message, Will
from shared.presence import state_of
from shared.waker import Waker

IDLE_WAIT_S = 0.5
BUSY_WAIT_S = 0.02  # while a child process or a thread may finish, which wakes no socket
DRAIN_S = 3.0

log = logging.getLogger(__name__)


class Node(Protocol):
    """What the loop asks of a role."""

    @property
    def links(self) -> Sequence[Link]:
        """The brokers that it is connected to."""

    def on_connected(self, link: Link) -> None:
        """A connection is new: publish what is retained again."""

    def on_message(self, link: Link, message: Message, now_s: float) -> None:
        """Takes a message, and sees to it that it is acknowledged. ``now_s`` is monotonic."""

    def turn(self, now_s: float) -> None:
        """Does what is due. ``now_s`` is monotonic."""

    def next_wake_s(self, now_s: float) -> float:
        """Returns how long the loop may wait for the next message, in seconds."""

    def farewell(self) -> None:
        """Publishes what the hierarchy is to know when the node leaves."""

    def close(self) -> None:
        """Ends threads and child processes, closes files."""


class Loop:
    """Drives a node: read all that is there, one turn, write once, deadlines and keepalive.

    Args:
        node: the node.
        drops: counts messages that were not used, by reason.
        waker: ends the wait for the next message, from another thread.
    """

    def __init__(self, node: Node, drops: Counter, waker: Waker | None = None) -> None:
        self._node = node
        self._drops = drops
        self._waker = waker
        self._stopping = False
        self._sessions: dict[str, int] = {}

    def run(self) -> None:
        """Runs until SIGTERM or SIGINT, then drains and says goodbye."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            while not self._stopping:
                self.step(self._node.next_wake_s(time.monotonic()))
            self._drain()
        finally:
            for link in self._node.links:
                link.close()
            self._node.close()
            if self._waker is not None:
                self._waker.close()

    def step(self, wait_s: float) -> None:
        """One turn of the loop.

        Args:
            wait_s: how long to wait for a message at most.
        """
        others = () if self._waker is None else (self._waker.fileno(),)
        wait_for_any(self._node.links, min(wait_s, IDLE_WAIT_S), others)
        if self._waker is not None:
            self._waker.drain()
        now_s = time.monotonic()
        for link in self._node.links:
            messages = link.receive()
            for reason, number in link.take_drops().items():
                self._drops.labels(reason=reason).inc(number)
            self._greet_if_new(link)
            for message in messages:
                deliver(self._node, link, message, now_s, self._drops)
        self._node.turn(now_s)
        now_s = time.monotonic()
        for link in self._node.links:
            link.flush()
            link.tend(now_s)

    def _greet_if_new(self, link: Link) -> None:
        if link.connected and self._sessions.get(link.client_id) != link.session:
            self._sessions[link.client_id] = link.session
            self._node.on_connected(link)

    def _drain(self) -> None:
        """Gives what is under way out a bounded time to be acknowledged.

        What comes in meanwhile is left to the broker: unacknowledged, it comes again.
        """
        log.info("stopping")
        self._node.farewell()
        links, ends_s = self._node.links, time.monotonic() + DRAIN_S
        while not all(link.settled for link in links) and time.monotonic() < ends_s:
            wait_for_any(links, BUSY_WAIT_S)
            for link in links:
                link.receive()
                link.flush()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True


def deliver(node: Node, link: Link, message: Message, now_s: float, drops: Counter) -> None:
    """Hands a message to a node, which it cannot end.

    Args:
        node: the node.
        link: the broker whence it came.
        message: the message.
        now_s: monotonic.
        drops: counts it, should it be put away.
    """
    try:
        node.on_message(link, message, now_s)
    except Exception:
        # A message that would end whoever reads it comes again after a restart, and again: it is
        # put away here, said and counted.
        log.exception("dropped a message on %s that cannot be handled", message.topic)
        drops.labels(reason="poison").inc()
        link.done(message)


def open_link(
    config: NodeConfig,
    broker: BrokerConfig,
    role: str,
    *,
    persistent: bool,
    suffix: str = "",
    has_will: bool | None = None,
    receive_maximum: int | None = None,
) -> Link:
    """Makes a node's link to a broker, with its last will.

    Args:
        config: the node.
        broker: the broker.
        role: the node's role.
        persistent: whether the broker keeps messages while the node is away.
        suffix: tells the links of one node apart.
        has_will: whether the broker tells when the node vanishes; None for the link without suffix.
        receive_maximum: how many unacknowledged messages the broker may send (MQTT 5 only).
    """
    gone = state_of(config, role, "offline")
    tells = not suffix if has_will is None else has_will
    return Link(
        broker,
        f"{config.prefix}-{config.site}-{config.node}{suffix}",
        persistent=persistent,
        will=Will(config.topics.state(config.node), to_json(gone)) if tells else None,
        rng=random.Random(),  # noqa: S311 - jitter, not a secret
        receive_maximum=receive_maximum,
    )
