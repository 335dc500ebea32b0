"""Finds out whether a broker really delivers shared subscriptions.

Some brokers grant ``$share/…`` and then deliver nothing (amqtt, aedes). Workers that trusted the
grant would wait for ever.
"""

from __future__ import annotations

import random
from enum import Enum

from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.topics import shared_filter

PATIENCE_S = 2.0
AGAIN_S = 0.25


class Verdict(Enum):
    """What is known about a broker's shared subscriptions."""

    UNKNOWN = "unknown"
    DELIVERED = "delivered"
    NOT_DELIVERED = "not_delivered"


class SharedProbe:
    """Sends itself a message by a shared subscription, anew on each connection.

    Args:
        link: the broker.
        topic: a topic of this process's own kind, ``Topics.probe``.
        rng: makes what is sent unlike anybody else's.

    Attributes:
        verdict: of the latest probe that ended; it stands while the next one runs.
    """

    def __init__(self, link: Link, topic: str, rng: random.Random) -> None:
        self.verdict = Verdict.UNKNOWN
        self._link = link
        self._topic = topic
        self._nonce = f"{rng.getrandbits(64):016x}"
        self._filter = shared_filter(f"probe-{self._nonce}", topic)
        self._session = 0
        self._ends_s: float | None = None
        self._send_s = 0.0

    def take(self, message: Message) -> bool:
        """Takes what the probe sent; returns False if the message is another."""
        if message.topic != self._topic:
            return False
        if self._ends_s is not None and message.payload == self._nonce.encode():
            self._end(Verdict.DELIVERED)
        return True

    def poll(self, now_s: float) -> None:
        """Begins on a new connection, sends, and gives up when nothing comes.

        Args:
            now_s: monotonic.
        """
        link = self._link
        if not link.connected:
            return
        if link.session != self._session:
            self._session = link.session
            self._begin(now_s)
        if self._ends_s is None:
            return
        if now_s >= self._ends_s:
            self._end(Verdict.NOT_DELIVERED)
        elif now_s >= self._send_s:
            link.publish(self._topic, self._nonce.encode(), qos=0)
            self._send_s = now_s + AGAIN_S

    def due_s(self) -> float | None:
        """Returns when ``poll`` is due, monotonic, or None while no probe runs."""
        return None if self._ends_s is None else min(self._send_s, self._ends_s)

    def _begin(self, now_s: float) -> None:
        if self._link.refuses_shared:
            # MQTT 5, section 3.2.2.3.13: to ask all the same would be a protocol error.
            self._end(Verdict.NOT_DELIVERED)
            return
        self._ends_s = now_s + PATIENCE_S
        self._send_s = now_s
        self._link.subscribe(self._filter, 0)

    def _end(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self._ends_s = None
        self._link.unsubscribe(self._filter)
