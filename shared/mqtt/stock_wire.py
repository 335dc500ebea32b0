"""How messages go over a connection where paho cannot be tapped: through its own public calls."""

from __future__ import annotations

import logging
import select
from typing import Any

from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from shared.mqtt.message import Message
from shared.mqtt.outbox import OnAck, Refusal
from shared.mqtt.packet_stream import Arrivals, Skipped, no_arrivals
from shared.mqtt.packets import MAX_OVERHEAD_BYTES
from shared.mqtt.wire import checked_topic, let_paho_read, too_large

MAX_PACKETS_A_TURN = 256
MAX_UNACKNOWLEDGED = 100  # paho scans them all at each PUBACK: 62 µs at 20, 152 at 1000

log = logging.getLogger(__name__)


class StockWire:
    """Carries everything through paho's own public calls: slower, and no private thing needed.

    Args:
        client: the client.
        five: whether it speaks MQTT 5.
        max_packet_bytes: a larger message is dropped when it is there; paho reads it whole.
    """

    def __init__(self, client: Client, *, five: bool, max_packet_bytes: int) -> None:
        self._client = client
        self._five = five
        self._max_packet_bytes = max_packet_bytes
        self._max_sent_bytes = max_packet_bytes
        self._window = MAX_UNACKNOWLEDGED
        self._session = 0
        self._kept: dict[int, OnAck | None] = {}
        self._arrivals = no_arrivals()
        client.on_message = self._on_message
        client.on_publish = self._on_publish

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait for the socket to take them."""
        return self._client.want_write()

    @property
    def pending(self) -> bool:
        """Whether TLS holds bytes that no ``select`` shows."""
        pending = getattr(self._client.socket(), "pending", None)
        return pending is not None and pending() > 0

    @property
    def settled(self) -> bool:
        """Whether the broker has acknowledged everything at QoS 1."""
        return not self._kept

    def begin(
        self, session: int, *, present: bool, receive_maximum: int, max_packet_bytes: int
    ) -> None:
        """Notes a new connection. paho sends again by itself."""
        # It sends all at once, whatever the broker takes: so no more than that may be kept.
        self._session = session
        self._window = min(MAX_UNACKNOWLEDGED, receive_maximum)
        self._max_sent_bytes = min(self._max_packet_bytes, max_packet_bytes)

    def end(self, *, soon: bool) -> Refusal | None:
        """Notes the end of a connection. What paho keeps, it gives up never."""
        return None

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool,
        expiry_s: float | None,
        on_ack: OnAck | None,
    ) -> bool:
        """Queues a message; returns False if there is no room for it now."""
        size = len(checked_topic(topic)) + len(payload)
        if size + MAX_OVERHEAD_BYTES > self._max_sent_bytes:
            raise too_large(topic, size, self._max_sent_bytes)
        if qos and len(self._kept) >= self._window:
            return False
        info = self._client.publish(topic, payload, qos, retain, self._expiry(expiry_s))
        if info.rc != MQTT_ERR_SUCCESS:
            return False
        if qos:
            self._kept[info.mid] = on_ack
        return True

    def subscribe(self, topic_filter: str, qos: int) -> int | None:
        """Queues a SUBSCRIBE; returns its packet identifier."""
        return self._client.subscribe(topic_filter, qos)[1]

    def unsubscribe(self, topic_filter: str) -> int | None:
        """Queues an UNSUBSCRIBE; returns its packet identifier."""
        return self._client.unsubscribe(topic_filter)[1]

    def acknowledge(self, mid: int) -> None:
        """Queues a PUBACK."""
        self._client.ack(mid, 1)

    def read(self) -> Arrivals:
        """Reads what is there, a bounded amount, and tells who waits for an acknowledgement."""
        for _ in range(MAX_PACKETS_A_TURN):
            if not self._readable() or not let_paho_read(self._client):
                break
        arrivals, self._arrivals = self._arrivals, no_arrivals()
        for mid in arrivals.acknowledged:
            on_ack = self._kept.pop(mid, None)
            if on_ack is not None:
                on_ack()
        return arrivals

    def write(self) -> None:
        """Writes what is queued, as far as the socket takes it."""
        if self._client.socket() is not None and self.wants_write:
            self._client.loop_write()

    def _readable(self) -> bool:
        opened: Any = self._client.socket()
        return opened is not None and (self.pending or bool(select.select([opened], [], [], 0)[0]))

    def _expiry(self, expiry_s: float | None) -> Properties | None:
        if expiry_s is None or not self._five:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = max(1, round(expiry_s))
        return properties

    # Called by paho within ``read``. Each only takes note.

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        mid = message.mid if message.qos else 0
        if message.qos == 2:
            log.warning("dropped a message at QoS 2: nothing here subscribes to more than QoS 1")
            client.ack(mid, 2)
            return
        if mid:
            self._arrivals.mids.append(mid)
        size, retain = len(message.payload), bool(message.retain)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self._arrivals.skipped.append(Skipped("bad_topic", "", mid, size, retain))
            return
        if size > self._max_packet_bytes:
            self._arrivals.skipped.append(Skipped("too_large", topic, mid, size, retain))
            return
        self._arrivals.messages.append(
            Message(
                topic, bytes(message.payload), message.qos, mid, self._session,
                message.dup, retain,
            )
        )  # fmt: skip

    def _on_publish(
        self, client: Client, userdata: Any, mid: int, code: Any, properties: Any
    ) -> None:
        if code.is_failure:
            self._arrivals.refused[mid] = code.value
        self._arrivals.acknowledged.append(mid)
