"""Finds out when all that a broker held for a session has come and is acknowledged."""

from __future__ import annotations

import random

from shared.mqtt.link import Link
from shared.mqtt.message import Message


class Milestone:
    """A message to oneself at QoS 1, which comes behind all that waits in the session.

    A session is a queue: brokers deliver from it in its order (which MQTT demands of each topic,
    [MQTT-4.6.0-6]), and are acknowledged in that order ([MQTT-4.6.0-2]). So once the message is
    acknowledged, everything that was published before it is, too.

    Args:
        link: the broker.
        topic: a topic of this process's own, ``Topics.probe``.
        rng: makes what is sent unlike anybody else's.

    Attributes:
        passed: whether that is so.
    """

    def __init__(self, link: Link, topic: str, rng: random.Random) -> None:
        self.passed = False
        self._link = link
        self._topic = topic
        self._nonce = f"{rng.getrandbits(64):016x}"
        self._count = 0
        self._sent = b""
        self._came: Message | None = None

    @property
    def begun(self) -> bool:
        """Whether it is on its way, or was."""
        return self._count > 0

    def begin(self) -> None:
        """Sets it behind all that is published before now."""
        self.passed = False
        self._count += 1
        self._link.subscribe(self._topic, 1)

    def take(self, message: Message) -> bool:
        """Takes what was sent; returns False if the message is another."""
        if message.topic != self._topic:
            return False
        if self._sent and message.payload == self._sent:
            self._came = message
        return True

    def poll(self) -> None:
        """Sends, on each connection anew, and looks whether it is acknowledged."""
        link = self._link
        if not self.begun or self.passed or not link.confirmed:
            return
        wanted = f"{self._nonce}-{self._count}-{link.session}".encode()
        if self._sent != wanted:
            # A session may be lost with a connection, and what came on it comes again.
            self._came = None
            if link.publish(self._topic, wanted):
                self._sent = wanted
        elif self._came is not None and not link.owes(self._came):
            self.passed = True
            link.unsubscribe(self._topic)
