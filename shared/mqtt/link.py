"""The link to one broker: it connects, stays connected, subscribes, acknowledges in order.

It starts no network thread: ``receive``, ``flush`` and ``tend`` drive paho through its public
external-loop calls from the one loop that owns the node. Only the attempt to connect runs aside, so
that a broker that does not answer stalls nobody. How the messages go is the wire's (``wire.py``).
"""

from __future__ import annotations

import contextlib
import logging
import random
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt.client import MQTT_ERR_NO_CONN, MQTT_ERR_SUCCESS, Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from shared.config import BrokerConfig
from shared.mqtt.ack_queue import AckQueue
from shared.mqtt.message import Message, Will

CONNECT_TIMEOUT_S = 5.0
FIRST_DELAY_S = 0.25
MAX_DELAY_S = 15.0
CONNECTING_WAIT_S = 0.02
MAX_PACKETS_A_TURN = 256
MAX_INFLIGHT = 100  # paho scans them all at each PUBACK: 62 µs at 20, 152 at 1000
MAX_QUEUED = 10_000
RECEIVE_BUFFER_BYTES = 2**20
SESSION_EXPIRY_S = 7 * 86_400

log = logging.getLogger(__name__)


class Link:
    """A client of one broker.

    Args:
        broker: where and how to connect.
        client_id: unique at this broker.
        persistent: whether the broker keeps messages for us while we are away.
        will: last will.
        rng: jitter of the reconnects.

    Attributes:
        session: counts the connections; 0 before the first. A new number means: the broker may
            have forgotten everything, so publish what is retained again.
    """

    def __init__(
        self,
        broker: BrokerConfig,
        client_id: str,
        *,
        persistent: bool,
        will: Will | None,
        rng: random.Random,
    ) -> None:
        self.session = 0
        self.broker = broker
        self.client_id = client_id
        self._rng = rng
        self._subscriptions: dict[str, int] = {}
        self._inbox: deque[Message] = deque()
        self._acks = AckQueue()
        self._acked_mids: deque[int] = deque()
        self._on_acks: dict[int, Callable[[], None]] = {}
        self._connected = False
        self._closing = False
        self._lost = False
        self._connector: threading.Thread | None = None
        self._failures = 0
        self._next_attempt_s = 0.0
        self._attempt_ends_s = 0.0
        self._client = self._make_client(client_id, persistent, will)

    # What the node uses

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and the connection stands."""
        return self._connected

    def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        """Subscribes now and again at every connect."""
        self._subscriptions[topic_filter] = qos
        if self._connected:
            self._client.subscribe(topic_filter, qos)

    def unsubscribe(self, topic_filter: str) -> None:
        """Ends a subscription; of an unknown one, nothing."""
        if self._subscriptions.pop(topic_filter, None) is not None and self._connected:
            self._client.unsubscribe(topic_filter)

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
        """Queues a message for the next ``flush``.

        Args:
            topic: where to.
            payload: what.
            qos: 0 or 1.
            retain: whether the broker keeps it for later subscribers.
            expiry_s: the broker may drop it after that long (MQTT 5 only).
            on_ack: called from ``receive`` once the broker has acknowledged it (QoS 1).

        Returns:
            False if it was not taken: no connection, or too many unacknowledged. A taken QoS 1
            message outlives a lost connection, but not this process.
        """
        if not self._connected:
            return False
        properties = self._expiry(expiry_s)
        info = self._client.publish(topic, payload, qos, retain, properties)
        taken = info.rc == MQTT_ERR_SUCCESS or (qos > 0 and info.rc == MQTT_ERR_NO_CONN)
        if taken and on_ack is not None:
            self._on_acks[info.mid] = on_ack
        return taken

    def done(self, message: Message) -> None:
        """Acknowledges a message to the broker, in the order of arrival."""
        if message.qos == 0 or message.session != self.session or not self._connected:
            return
        for mid in self._acks.done(message.mid):
            self._client.ack(mid, 1)

    # What the loop uses

    def socket(self) -> socket.socket | None:
        """Returns the socket to wait on, or None while there is none to read."""
        if self._connector is not None:
            return None
        return self._client.socket()  # type: ignore[return-value]

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait for the socket to take them."""
        return self._connector is None and self._client.want_write()

    @property
    def settled(self) -> bool:
        """Whether nothing is on its way out that somebody waits for."""
        return not self._connected or (not self._on_acks and not self.wants_write)

    def receive(self) -> list[Message]:
        """Reads all that is there, a bounded number of packets; runs the callbacks of PUBACKs."""
        for _ in range(MAX_PACKETS_A_TURN):
            ready = self.socket()
            if ready is None or not _readable(ready):
                break
            if self._client.loop_read() != MQTT_ERR_SUCCESS:
                break
        while self._acked_mids:
            on_ack = self._on_acks.pop(self._acked_mids.popleft(), None)
            if on_ack is not None:
                on_ack()
        messages = list(self._inbox)
        self._inbox.clear()
        return messages

    def flush(self) -> None:
        """Writes what is queued, as far as the socket takes it."""
        if self.wants_write and self._client.socket() is not None:
            self._client.loop_write()

    def tend(self, now_s: float) -> None:
        """Keeps the connection alive, or makes a new one when its time has come."""
        if self._connector is not None:
            self._after_attempt(now_s)
        elif self._client.socket() is None:
            if self._lost:
                # Also after a long connection: a broker's restart must not bring all at once.
                self._lost = False
                self._next_attempt_s = now_s + self._delay_s()
            if now_s >= self._next_attempt_s:
                self._attempt(now_s)
        elif not self._connected and now_s >= self._attempt_ends_s:
            log.warning("%s takes the connection but says nothing", self.broker.url)
            self._close_socket()
        else:
            self._client.loop_misc()

    def close(self) -> None:
        """Says goodbye to the broker. The last will is not published."""
        if self._connector is not None:
            self._connector.join()
        self._closing = True
        if self._client.socket() is not None:
            self._client.disconnect()
            self._client.loop_write()

    # Connecting

    def _attempt(self, now_s: float) -> None:
        self._next_attempt_s = now_s + self._delay_s()
        self._failures += 1
        self._connector = threading.Thread(target=self._connect, name="connect", daemon=True)
        self._connector.start()

    def _connect(self) -> None:
        try:
            self._client.reconnect()
        except (OSError, ValueError) as error:
            log.warning("cannot reach %s: %s", self.broker.url, error)

    def _after_attempt(self, now_s: float) -> None:
        if self._connector is not None and not self._connector.is_alive():
            self._connector.join()
            self._connector = None
            self._attempt_ends_s = now_s + CONNECT_TIMEOUT_S

    def _delay_s(self) -> float:
        """Exponential, capped, jittered by half, so that a fleet does not come back as one."""
        ceiling: float = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(self._failures, 10))
        return ceiling * self._rng.uniform(0.5, 1.0)

    def _close_socket(self) -> None:
        """Ends a connection so that paho itself finds it ended at its next read."""
        ready = self.socket()
        if ready is not None:
            with contextlib.suppress(OSError):  # it may be closed by the other side already
                ready.shutdown(socket.SHUT_RDWR)

    # Called by paho, within ``receive``, ``flush`` or ``tend``. Each only takes note.

    def _on_connect(
        self, client: Client, userdata: Any, flags: Any, code: ReasonCode, properties: Any
    ) -> None:
        if code.is_failure:
            log.error("%s refuses us: %s", self.broker.url, code)
            return
        self.session += 1
        self._connected = True
        self._failures = 0
        self._acks.clear()
        log.info("connected to %s", self.broker.url)
        for topic_filter, qos in self._subscriptions.items():
            client.subscribe(topic_filter, qos)

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: Any, code: ReasonCode, properties: Any
    ) -> None:
        if self._connected and not self._closing:
            log.warning("connection to %s lost: %s", self.broker.url, code)
        self._connected = False
        self._lost = True

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        qos = min(message.qos, 1)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            log.warning("dropped a message whose topic is not UTF-8")
            client.ack(message.mid, qos)
            return
        if qos:
            self._acks.add(message.mid)
        payload = bytes(message.payload)
        self._inbox.append(
            Message(
                topic, payload, qos, message.mid, self.session, message.dup, bool(message.retain)
            )
        )

    def _on_publish(
        self, client: Client, userdata: Any, mid: int, code: ReasonCode, properties: Any
    ) -> None:
        if code.is_failure:
            log.error("%s refuses a message: %s", self.broker.url, code)
        self._acked_mids.append(mid)

    def _on_subscribe(
        self, client: Client, userdata: Any, mid: int, codes: list[ReasonCode], properties: Any
    ) -> None:
        for code in codes:
            if code.is_failure:
                log.error("%s refuses a subscription: %s", self.broker.url, code)

    def _on_socket_open(self, client: Client, userdata: Any, opened: Any) -> None:
        # Without it, Nagle's algorithm makes a QoS 1 round trip 44 ms.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)

    def _on_register_write(self, client: Client, userdata: Any, opened: Any) -> None:
        """Its presence tells paho that the loop writes: one write for all queued packets."""

    def _make_client(self, client_id: str, persistent: bool, will: Will | None) -> Client:
        five = self.broker.protocol == "5"
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if five else not persistent,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_socket_open = self._on_socket_open
        client.on_socket_register_write = self._on_register_write
        client.max_inflight_messages_set(MAX_INFLIGHT)
        client.max_queued_messages_set(MAX_QUEUED)
        client.connect_timeout = CONNECT_TIMEOUT_S
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        if self.broker.username is not None:
            client.username_pw_set(self.broker.username, self.broker.password)
        broker = self.broker
        if five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_EXPIRY_S if persistent else 0
            client.connect_async(
                broker.host, broker.port, broker.keepalive_s, "", 0, not persistent, properties
            )
        else:
            client.connect_async(broker.host, broker.port, broker.keepalive_s)
        return client

    def _expiry(self, expiry_s: float | None) -> Properties | None:
        if expiry_s is None or self.broker.protocol != "5":
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = max(1, round(expiry_s))
        return properties


def _readable(ready: socket.socket) -> bool:
    return bool(select.select([ready], [], [], 0)[0])


def wait_for_any(links: Sequence[Link], wait_s: float) -> None:
    """Waits until a link has something to read, or takes what it has to write, or the time is up.

    Args:
        links: the links of a node.
        wait_s: how long at most.
    """
    sockets = [(link, ready) for link in links if (ready := link.socket()) is not None]
    if not sockets:
        # Nothing to wait on while every link is connecting; select would return at once.
        time.sleep(min(max(0.0, wait_s), CONNECTING_WAIT_S))
        return
    readers = [ready for _, ready in sockets]
    writers = [ready for link, ready in sockets if link.wants_write]
    select.select(readers, writers, [], max(0.0, wait_s))
