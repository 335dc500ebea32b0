"""A broker in memory, and the real link's interface on it."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.mqtt.link import Link
from shared.mqtt.message import Message

WAIT_S = 30.0
LOOK_EVERY_S = 0.01


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Waits for a condition; a bound that only a hang reaches turns the wait into a failure."""
    ends_s = time.monotonic() + WAIT_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < ends_s, f"waited in vain: {what}"
        pause.wait(LOOK_EVERY_S)


@dataclass(frozen=True)
class Published:
    """What a link gave to the broker."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass
class FakeBroker:
    """Keeps retained messages and routes the others to the links that are connected.

    Attributes:
        retained: by topic.
        published: everything that a link gave it, in order.
        links: connected or not.
    """

    retained: dict[str, bytes] = field(default_factory=dict)
    published: list[Published] = field(default_factory=list)
    links: list[FakeLink] = field(default_factory=list)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Routes a message, as from a client of no interest here."""
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)
        for link in self.links:
            link.deliver(topic, payload)

    def payloads(self, topic: str) -> list[bytes]:
        """Returns what links published on a topic, in order."""
        return [message.payload for message in self.published if message.topic == topic]

    def forget(self) -> None:
        """Loses what is retained, as a broker killed by the kernel does."""
        self.retained.clear()


class FakeLink(Link):
    """The link's interface without paho: what is subscribed arrives with the next ``receive``.

    It refuses while it is not connected or ``full``, repeats retained messages at each subscribe,
    runs ``on_ack`` within ``receive`` and loses unread messages with the connection.

    Args:
        hub: the broker.
        connected: whether it is connected from the start.

    Attributes:
        subscribed: every filter that was ever subscribed, in order.
        forgotten: every filter of which an earlier process may have left a subscription.
        subscriptions: those that stand.
        full: refuses every publish, as the real one does with a full queue.
        holds_acks: keeps the broker's acknowledgements back.
        acknowledged: messages that were done with.
    """

    def __init__(self, hub: FakeBroker, *, connected: bool = True) -> None:
        self.session = 0
        self.client_id = "fake"
        self.after_outage = False
        self.evictions = 0
        self.refuses_shared = False
        self.contests = 0
        self.hub = hub
        self.subscribed: list[str] = []
        self.forgotten: list[str] = []
        self.subscriptions: dict[str, int] = {}
        self.full = False
        self.holds_acks = False
        self.acknowledged: list[Message] = []
        self._up = False
        self._mid = 0
        self._unread: deque[Message] = deque()
        self._due_acks: deque[Callable[[], None]] = deque()
        hub.links.append(self)
        if connected:
            self.connect()

    def connect(self) -> None:
        """Connects; the broker sends what is retained for each subscription."""
        self._up = True
        self.session += 1
        for topic_filter in self.subscriptions:
            self._send_retained(topic_filter)

    def disconnect(self) -> None:
        """Loses the connection, with what was not read."""
        self._up = False
        self._unread.clear()

    def restart(self) -> None:
        """Ends the connection and makes a new one."""
        self.disconnect()
        self.connect()

    def deliver(self, topic: str, payload: bytes) -> None:
        """Takes a message from the broker, if a subscription matches."""
        for topic_filter, qos in self.subscriptions.items():
            if self._up and _matches(topic_filter, topic):
                self._arrive(topic, payload, qos, retain=False)
                return

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return self._up

    def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        """Subscribes now and again at every connect."""
        self.subscribed.append(topic_filter)
        self.subscriptions[topic_filter] = qos
        if self._up:
            self._send_retained(topic_filter)

    def unsubscribe(self, topic_filter: str) -> None:
        """Ends a subscription; of an unknown one, nothing."""
        self.subscriptions.pop(topic_filter, None)

    def forget(self, topic_filter: str) -> None:
        """Ends a subscription that an earlier process may have left in the session."""
        self.forgotten.append(topic_filter)
        self.unsubscribe(topic_filter)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry_s: float | None = None,
        on_ack: Callable[[], None] | None = None,
    ) -> bool:
        """Hands a message to the broker."""
        if not self._up or self.full:
            return False
        self.hub.published.append(Published(topic, payload, qos, retain))
        self.hub.publish(topic, payload, retain=retain)
        if on_ack is not None:
            self._due_acks.append(on_ack)
        return True

    def done(self, message: Message) -> None:
        """Notes the acknowledgement."""
        self.acknowledged.append(message)

    def receive(self) -> list[Message]:
        """Returns what arrived; runs the callbacks of what the broker acknowledged."""
        if self._up and not self.holds_acks:
            due, self._due_acks = self._due_acks, deque()
            for on_ack in due:
                on_ack()
        messages = list(self._unread)
        self._unread.clear()
        return messages

    def socket(self) -> socket.socket | None:
        """Returns None: there is nothing to wait on."""
        return None

    @property
    def pending(self) -> bool:
        """Whether there is something to read."""
        return False

    def take_drops(self) -> dict[str, int]:
        """Returns no drops."""
        return {}

    def contested(self) -> None:
        """Notes it."""
        self.contests += 1

    @property
    def settled(self) -> bool:
        """Whether the broker has acknowledged all that somebody waits for."""
        return not self._due_acks

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait."""
        return False

    def flush(self) -> None:
        """Writes nothing."""

    def tend(self, now_s: float) -> None:
        """Tends nothing."""

    def close(self) -> None:
        """Ends the connection."""
        self.disconnect()

    def _send_retained(self, topic_filter: str) -> None:
        for topic, payload in self.hub.retained.items():
            if _matches(topic_filter, topic):
                self._arrive(topic, payload, self.subscriptions[topic_filter], retain=True)

    def _arrive(self, topic: str, payload: bytes, qos: int, *, retain: bool) -> None:
        self._mid += qos
        mid = self._mid if qos else 0
        self._unread.append(Message(topic, payload, qos, mid, self.session, retain=retain))


def _matches(topic_filter: str, topic: str) -> bool:
    wanted, given = topic_filter.split("/"), topic.split("/")
    return len(wanted) == len(given) and all(
        want in ("+", level) for want, level in zip(wanted, given, strict=True)
    )
