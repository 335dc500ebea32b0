"""Tells when all that the broker retained of the fleet has come."""

from __future__ import annotations

import math

from shared.mqtt.link import Link
from shared.mqtt.message import Message

AGAIN_S = 5.0


class Echo:
    """A message to oneself, which comes back behind all that was subscribed to before it.

    At QoS 0, like the news that it follows: of QoS 1, a broker keeps but a thousand for a client,
    and may drop it. What is lost is sent again.

    Args:
        link: the broker.
        topic: of this node's own, ``Topics.probe``.
    """

    def __init__(self, link: Link, topic: str) -> None:
        self._link = link
        self._topic = topic
        self._came = 0
        self._due_s: float | None = math.inf

    @property
    def back(self) -> bool:
        """Whether it has come back on the link's latest connection."""
        return 0 < self._came == self._link.session

    def start(self) -> None:
        """Subscribes. What it is to come behind is subscribed to before."""
        self._link.subscribe(self._topic, 0)

    def begin(self) -> None:
        """Sends it: the connection is new."""
        self._due_s = None if self._send() else -math.inf

    def take(self, message: Message) -> bool:
        """Takes what was sent; returns False if the message is another."""
        if message.topic != self._topic:
            return False
        if message.payload == self._payload:
            self._came = self._link.session
        return True

    def poll(self, now_s: float) -> None:
        """Sends it, and again where it did not come back in time.

        Args:
            now_s: monotonic.
        """
        if self._due_s is None or (not self.back and now_s >= self._due_s and self._send()):
            self._due_s = now_s + AGAIN_S

    def _send(self) -> bool:
        return self._link.publish(self._topic, self._payload, qos=0)

    @property
    def _payload(self) -> bytes:
        """It names the connection: one of an earlier connection proves nothing."""
        return str(self._link.session).encode()
