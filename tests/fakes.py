"""The real link's interface on a broker in memory (``fake_broker.py``)."""

from __future__ import annotations

import itertools
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from shared.mqtt.ack_queue import AckQueue
from shared.mqtt.link import Link
from shared.mqtt.link_drops import LinkDrops
from shared.mqtt.message import Message, Will
from shared.mqtt.packet_stream import Skipped
from shared.mqtt.packets import MAX_OVERHEAD_BYTES
from shared.mqtt.wire import checked_topic, too_large
from tests.fake_broker import FakeBroker, Published, Session

__all__ = ["FakeBroker", "FakeLink", "Published", "wait_until"]

WAIT_S = 30.0
LOOK_EVERY_S = 0.01
MAX_PACKET_BYTES = 2**20

_numbers = itertools.count(1)
log = logging.getLogger(__name__)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Waits for a condition; a bound that only a hang reaches turns the wait into a failure."""
    ends_s = time.monotonic() + WAIT_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < ends_s, f"waited in vain: {what}"
        pause.wait(LOOK_EVERY_S)


class FakeLink(Link):
    """The link's interface without paho: what is subscribed arrives with the next ``receive``.

    It refuses while it is not connected or ``full``, repeats retained messages at each subscribe,
    runs ``on_ack`` within ``receive``, loses unread messages with the connection, and sends again
    what the broker has not acknowledged. It connects when it is told to; after ``cut`` by itself,
    as the real one does.

    Args:
        hub: the broker.
        connected: whether it is connected from the start.
        client_id: unique at the broker; by default it is.
        persistent: whether the broker keeps messages for us while we are away.
        will: last will.
        receive_maximum: how many unacknowledged messages the broker may send us.
        max_packet_bytes: larger messages are neither sent nor taken.

    Attributes:
        subscribed: every filter that was ever subscribed, in order.
        subscriptions: those that stand.
        forgotten: every filter of an earlier process that was ended, in order.
        full: refuses QoS 1, as the real one does with as many unacknowledged as it keeps.
        holds_acks: keeps the broker's acknowledgements back.
        acknowledged: messages that were done with.
        contests: how often it was told that another client has its name.
        restarts: how often it was told to connect anew.
    """

    def __init__(
        self,
        hub: FakeBroker,
        *,
        connected: bool = True,
        client_id: str | None = None,
        persistent: bool = False,
        will: Will | None = None,
        receive_maximum: int = 65_535,
        max_packet_bytes: int = MAX_PACKET_BYTES,
    ) -> None:
        self.session = 0
        self.client_id = client_id or f"fake-{next(_numbers)}"
        self.after_outage = False
        self.evictions = 0
        self.refuses_shared = False
        self.hub = hub
        self.persistent = persistent
        self.will = will
        self.receive_maximum = receive_maximum
        self.max_packet_bytes = max_packet_bytes
        self.subscribed: list[str] = []
        self.subscriptions: dict[str, int] = {}
        self.forgotten: list[str] = []
        self.full = False
        self.holds_acks = False
        self.acknowledged: list[Message] = []
        self.contests = 0
        self.restarts = 0
        self._at_broker: Session | None = None
        self._wants_connection = False
        self._unreachable = False
        self._drops = LinkDrops("the fake broker", log)
        self._acks = AckQueue()
        self._unread: deque[Message] = deque()
        self._unacknowledged: deque[tuple[Published, Callable[[], None] | None]] = deque()
        self._gone: set[str] = set()
        hub.links.append(self)
        if connected:
            self.connect()

    # What a test does to it

    def connect(self) -> None:
        """Connects; the broker sends what is retained for each subscription."""
        self._wants_connection = True
        self._at_broker = self.hub.accept(self)
        if self._at_broker is None:
            self._unreachable = True
            return
        self.session += 1
        self.after_outage, self._unreachable = self._unreachable, False
        self._acks.clear()
        for topic_filter in self._gone:
            self._at_broker.subscriptions.pop(topic_filter, None)
        self._gone.clear()
        for topic_filter, qos in self.subscriptions.items():
            self.hub.subscribe(self._at_broker, topic_filter, qos)
        for published, _ in self._unacknowledged:
            self.hub.publish(published.topic, published.payload, retain=published.retain)
        self.hub.send_again(self._at_broker)

    def disconnect(self) -> None:
        """Loses the connection, with what was not read, and stays away until ``connect``."""
        self.cut()
        self._wants_connection = False

    def cut(self) -> None:
        """Loses the connection, with what was not read; ``tend`` makes a new one."""
        session, self._at_broker = self._at_broker, None
        self._unread.clear()
        if session is not None:
            self.hub.leave(session)
            if self.will is not None:
                self.hub.publish(self.will.topic, self.will.payload, retain=True)

    # What the broker does

    def deliver(self, topic: str, payload: bytes, mid: int, *, dup: bool, retain: bool) -> None:
        """Takes a message from the broker."""
        if mid:
            self._acks.add([mid])
        size = len(topic) + len(payload)
        if size > self.max_packet_bytes:
            self._drops.skip(Skipped("too_large", topic, mid, size, retain))
            self._acknowledge(mid)
            return
        qos = 1 if mid else 0
        self._unread.append(Message(topic, payload, qos, mid, self.session, dup, retain))

    # The link's interface

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return self._at_broker is not None

    def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        """Subscribes now and again at every connect."""
        self.subscribed.append(topic_filter)
        self.subscriptions[topic_filter] = qos
        self._gone.discard(topic_filter)
        if self._at_broker is not None:
            self.hub.subscribe(self._at_broker, topic_filter, qos)

    def unsubscribe(self, topic_filter: str) -> None:
        """Ends a subscription; of an unknown one, nothing."""
        if self.subscriptions.pop(topic_filter, None) is None:
            return
        if self._at_broker is not None:
            self._at_broker.subscriptions.pop(topic_filter, None)
        else:
            self._gone.add(topic_filter)

    def forget(self, topic_filter: str) -> None:
        """Ends a subscription that an earlier process may have left in the session."""
        self.forgotten.append(topic_filter)
        self.subscriptions.setdefault(topic_filter, 0)
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
        if self._at_broker is None:
            return False
        size = len(checked_topic(topic)) + len(payload)
        if size + MAX_OVERHEAD_BYTES > self.max_packet_bytes:
            raise too_large(topic, size, self.max_packet_bytes)
        if self.full and qos:
            return False
        published = Published(topic, payload, qos, retain)
        self.hub.published.append(published)
        if qos:
            self._unacknowledged.append((published, on_ack))
        self.hub.publish(topic, payload, retain=retain)
        return True

    def done(self, message: Message) -> None:
        """Acknowledges a message to the broker, in the order of arrival."""
        self.acknowledged.append(message)
        if message.mid and message.session == self.session:
            self._acknowledge(message.mid)

    def owes(self, message: Message) -> bool:
        """Whether a message is not acknowledged yet: for itself, or for one that came before it."""
        return message.session == self.session and message.mid in self._acks

    @property
    def confirmed(self) -> bool:
        """Whether the broker has answered every subscription, and every end of one."""
        return self._at_broker is not None

    @property
    def unacknowledged(self) -> int:
        """How many messages of this connection the broker still waits for."""
        return len(self._acks)

    def receive(self) -> list[Message]:
        """Returns what arrived; runs the callbacks of what the broker acknowledged."""
        if self._at_broker is not None and not self.holds_acks:
            due, self._unacknowledged = self._unacknowledged, deque()
            for _, on_ack in due:
                if on_ack is not None:
                    on_ack()
        messages = list(self._unread)
        self._unread.clear()
        return messages

    def take_drops(self) -> dict[str, int]:
        """Returns how many messages were not used since the last time, by reason."""
        return self._drops.take()

    def take_skipped(self) -> list[Skipped]:
        """Returns the messages that came and were not handed on, since the last time."""
        return self._drops.take_skipped()

    def restart(self) -> None:
        """Ends the connection and makes a new one."""
        self.restarts += 1
        self.cut()
        self.connect()

    def contested(self) -> None:
        """Notes it."""
        self.contests += 1

    def socket(self) -> socket.socket | None:
        """Returns None: there is nothing to wait on."""
        return None

    @property
    def connecting(self) -> bool:
        """Whether an attempt to connect runs."""
        return False

    @property
    def pending(self) -> bool:
        """Whether there is something to read."""
        return False

    @property
    def settled(self) -> bool:
        """Whether the broker has acknowledged all."""
        return self._at_broker is None or not self._unacknowledged

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait."""
        return False

    def flush(self) -> None:
        """Writes nothing."""

    def tend(self, now_s: float) -> None:
        """Makes a new connection, where one was lost."""
        if self._at_broker is None and self._wants_connection:
            self.connect()

    def close(self) -> None:
        """Says goodbye: the last will is not published."""
        self.will = None
        self.disconnect()

    def _acknowledge(self, mid: int) -> None:
        if self._at_broker is not None:
            for ready in self._acks.done(mid):
                self.hub.acknowledged(self._at_broker, ready)
