"""Finds out whether a broker really delivers shared subscriptions.

Some brokers grant ``$share/…`` and then deliver nothing (amqtt, aedes). Workers that trusted the
grant would wait for ever.
"""

from __future__ import annotations

import logging
import random
from enum import Enum

from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.topics import shared_filter

TRIES = 3
FIRST_WAIT_S = 0.25
MAX_WAIT_S = 4.0

log = logging.getLogger(__name__)


class Verdict(Enum):
    """What is known about a broker's shared subscriptions."""

    UNKNOWN = "unknown"
    DELIVERED = "delivered"
    NOT_DELIVERED = "not_delivered"


class SharedProbe:
    """Sends itself messages by a shared and by a plain subscription, anew on each connection.

    One shared message that comes proves that they are delivered. That they are not is believed only
    after several tries, in each of which the plain message came and the shared one did not: a slow
    link, or a broker that has too much to do, holds up both.

    The messages are published at QoS 1, and come at QoS 0: those at QoS 1 would wait behind
    unacknowledged samples.

    Args:
        link: the broker.
        shared_topic: a topic of this process's own, ``Topics.probe``.
        plain_topic: another.
        rng: makes what is sent unlike anybody else's.

    Attributes:
        verdict: of the latest probe that ended; it stands while the next one runs.
    """

    def __init__(self, link: Link, shared_topic: str, plain_topic: str, rng: random.Random) -> None:
        self.verdict = Verdict.UNKNOWN
        self._link = link
        self._shared_topic = shared_topic
        self._plain_topic = plain_topic
        # Not random: what an earlier life left in the session would stay in it for ever.
        self._filters = (shared_filter("probe", shared_topic), plain_topic)
        self._nonce = f"{rng.getrandbits(64):016x}"
        self._payload = b""
        self._session = 0
        self._due_s: float | None = None
        self._wait_s = FIRST_WAIT_S
        self._plain_came = False
        self._silent_tries = 0

    def start(self) -> None:
        """Knows nothing before there is a connection."""

    def take(self, message: Message) -> bool:
        """Takes what the probe sent; returns False if the message is another."""
        if message.topic not in (self._shared_topic, self._plain_topic):
            return False
        if self._due_s is not None and message.payload == self._payload:
            if message.topic == self._shared_topic:
                self._end(Verdict.DELIVERED)
            else:
                self._plain_came = True
        return True

    def poll(self, now_s: float) -> None:
        """Begins on a new connection, sends, and judges what has come.

        Args:
            now_s: monotonic.
        """
        link = self._link
        if not link.connected:
            return
        if link.session != self._session:
            self._session = link.session
            self._begin(now_s)
        if self._due_s is None or now_s < self._due_s:
            return
        self._silent_tries += self._plain_came
        if self._silent_tries >= TRIES:
            self._end(Verdict.NOT_DELIVERED)
        else:
            self._send(now_s)

    def due_s(self) -> float | None:
        """Returns when ``poll`` is due, monotonic, or None while no probe runs."""
        return self._due_s

    def _begin(self, now_s: float) -> None:
        if self._link.refuses_shared:
            # MQTT 5, section 3.2.2.3.13: to ask all the same would be a protocol error.
            self._end(Verdict.NOT_DELIVERED)
            return
        # What the last connection left unsent proves nothing about this one.
        self._payload = f"{self._nonce}-{self._session}".encode()
        self._due_s, self._wait_s = now_s, FIRST_WAIT_S
        self._plain_came, self._silent_tries = False, 0
        for topic_filter in self._filters:
            self._link.subscribe(topic_filter, 0)

    def _send(self, now_s: float) -> None:
        self._plain_came = False
        if self._link.publish(self._shared_topic, self._payload):
            self._link.publish(self._plain_topic, self._payload)
        self._due_s = now_s + self._wait_s
        if self._wait_s == MAX_WAIT_S / 2 and not self._silent_tries:
            log.warning(
                "nothing comes back that is sent to %s: may this node publish and subscribe there?",
                self._plain_topic,
            )
        self._wait_s = min(MAX_WAIT_S, 2 * self._wait_s)

    def _end(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self._due_s = None
        for topic_filter in self._filters:
            self._link.unsubscribe(topic_filter)
