"""How messages go over a connection: past paho, by the tap. ``stock_wire.py`` is the other way."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from typing import Any, Protocol

from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTMessage

from shared.errors import PayloadError
from shared.mqtt.outbox import OnAck, Outbox, Refusal
from shared.mqtt.packet_stream import Arrivals, PacketStream, no_arrivals
from shared.mqtt.packets import (
    MAX_OVERHEAD_BYTES,
    NO_PROPERTIES,
    encode_expiry,
    encode_puback,
    encode_publish,
    encode_topic,
)
from shared.mqtt.tap import Tap, TappedClient

MAX_READS_A_TURN = 4
MAX_UNSENT_BYTES = 2**25
MAX_KNOWN_TOPICS = 10_000

log = logging.getLogger(__name__)


class Wire(Protocol):
    """How messages go over a connection."""

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait for the socket to take them."""

    @property
    def pending(self) -> bool:
        """Whether bytes wait to be read that no ``select`` shows."""

    @property
    def settled(self) -> bool:
        """Whether the broker has acknowledged everything at QoS 1."""

    def begin(
        self, session: int, *, present: bool, receive_maximum: int, max_packet_bytes: int
    ) -> None:
        """Notes a new connection and sends again what the last one left unacknowledged.

        Args:
            session: its number.
            present: whether the broker kept our session.
            receive_maximum: how many unacknowledged messages the broker takes.
            max_packet_bytes: no larger packet may be sent.
        """

    def end(self, *, soon: bool) -> Refusal | None:
        """Notes the end of a connection.

        Args:
            soon: whether it had just begun.

        Returns:
            A message that is given up, for each connection ends on it.
        """

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
        """Queues a message; returns False if there is no room for it now.

        Raises:
            PayloadError: it can never be sent: ``too_large`` or ``bad_topic``.
        """

    def subscribe(self, topic_filter: str, qos: int) -> int | None:
        """Queues a SUBSCRIBE; returns its packet identifier."""

    def unsubscribe(self, topic_filter: str) -> int | None:
        """Queues an UNSUBSCRIBE; returns its packet identifier."""

    def acknowledge(self, mid: int) -> None:
        """Queues a PUBACK."""

    def read(self) -> Arrivals:
        """Reads what is there, a bounded amount, and tells who waits for an acknowledgement."""

    def write(self) -> None:
        """Writes what is queued, as far as the socket takes it."""


class TappedWire:
    """Carries the traffic past paho.

    Args:
        client: the client.
        five: whether it speaks MQTT 5.
        max_packet_bytes: a larger message is skipped as it comes.
    """

    def __init__(self, client: TappedClient, *, five: bool, max_packet_bytes: int) -> None:
        self._client = client
        self._five = five
        self._max_packet_bytes = max_packet_bytes
        self._max_sent_bytes = max_packet_bytes
        self._session = 0
        self._tap: Tap | None = None
        self._outbox = Outbox()
        self._names: dict[str, bytes] = {}
        self._topics: dict[bytes, str] = {}
        client.make_stream = self._make_stream
        client.on_message = self._on_message
        # paho sees messages at QoS 2 alone, and must bring those to an end itself.
        client.manual_ack_set(False)

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait for the socket to take them."""
        tap = self._open_tap()
        return tap is not None and (tap.unsent_bytes > 0 or self._client.want_write())

    @property
    def pending(self) -> bool:
        """Whether TLS holds bytes that no ``select`` shows."""
        tap = self._open_tap()
        return tap is not None and tap.pending() > 0

    @property
    def settled(self) -> bool:
        """Whether the broker has acknowledged everything at QoS 1."""
        return not len(self._outbox)

    def begin(
        self, session: int, *, present: bool, receive_maximum: int, max_packet_bytes: int
    ) -> None:
        """Notes a new connection and sends again what the last one left unacknowledged."""
        self._session = session
        self._max_sent_bytes = min(self._max_packet_bytes, max_packet_bytes)
        tap = self._tap = self._open_tap()
        packets = self._outbox.begin(
            time.monotonic(), present=present, receive_maximum=receive_maximum
        )
        if tap is not None:
            for packet in packets:
                tap.queue(packet)

    def end(self, *, soon: bool) -> Refusal | None:
        """Notes the end of a connection."""
        self._tap = None
        return self._outbox.lost(soon=soon)

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
        name = self._names.get(topic) or self._name(topic)
        if len(name) + len(payload) + MAX_OVERHEAD_BYTES > self._max_sent_bytes:
            raise too_large(topic, len(name) + len(payload), self._max_sent_bytes)
        tap, outbox = self._tap, self._outbox
        if tap is None or tap.unsent_bytes > MAX_UNSENT_BYTES:
            return False
        properties = b""
        if self._five:
            properties = NO_PROPERTIES if expiry_s is None else encode_expiry(expiry_s)
        if qos == 0:
            tap.queue(encode_publish(name, payload, 0, retain=retain, properties=properties))
            return True
        if outbox.is_full:
            return False
        mid = outbox.next_mid()
        packet = encode_publish(name, payload, mid, retain=retain, properties=properties)
        if outbox.add(mid, packet, on_ack):
            tap.queue(packet)
        if expiry_s is not None:
            outbox.expire_at(mid, time.monotonic() + expiry_s)
        return True

    def subscribe(self, topic_filter: str, qos: int) -> int | None:
        """Queues a SUBSCRIBE; returns its packet identifier."""
        return self._pass_on(self._client.subscribe(topic_filter, qos)[1])

    def unsubscribe(self, topic_filter: str) -> int | None:
        """Queues an UNSUBSCRIBE; returns its packet identifier."""
        return self._pass_on(self._client.unsubscribe(topic_filter)[1])

    def acknowledge(self, mid: int) -> None:
        """Queues a PUBACK."""
        if self._tap is not None:
            self._tap.queue(encode_puback(mid))

    def read(self) -> Arrivals:
        """Reads what is there, a bounded amount, and tells who waits for an acknowledgement."""
        tap = self._open_tap()
        if tap is None:
            return no_arrivals()
        for _ in range(MAX_READS_A_TURN):
            if not tap.fill():
                break
        self._let_paho_read(tap)
        arrivals = tap.stream.take()
        if arrivals.acknowledged:
            outbox = self._outbox
            told = outbox.acknowledged(arrivals.acknowledged)
            for packet in outbox.release():
                tap.queue(packet)
            for on_ack in told:
                on_ack()
        return arrivals

    def write(self) -> None:
        """Writes what is queued, as far as the socket takes it."""
        tap = self._open_tap()
        if tap is None:
            return
        if self._client.want_write():
            self._client.loop_write()
        tap.drain()

    def _open_tap(self) -> Tap | None:
        tap: Any = self._client.socket()
        return tap  # type: ignore[no-any-return]

    def _let_paho_read(self, tap: Tap) -> None:
        """Hands paho its packets, before the messages: the CONNACK comes before all others."""
        while tap.stream.control or tap.lost:
            if not let_paho_read(self._client):
                return

    def _make_stream(self) -> PacketStream:
        return PacketStream(
            five=self._five,
            max_packet_bytes=self._max_packet_bytes,
            session=self._session + 1,
            topics=self._topics,
        )

    def _name(self, topic: str) -> bytes:
        name = checked_topic(topic)
        if len(self._names) >= MAX_KNOWN_TOPICS:
            self._names.clear()
        self._names[topic] = name
        return name

    def _pass_on(self, mid: int | None) -> int | None:
        """Puts paho's packet behind those that are queued already, not behind all of this turn."""
        if mid is not None:
            self._outbox.ids.note(mid)
        self._client.loop_write()
        return mid

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        log.warning("dropped a message at QoS 2: nothing here subscribes to more than QoS 1")


def let_paho_read(client: Client) -> bool:
    """Lets paho read what is there; returns False if the connection has ended.

    What a broker sends may make paho raise anything, and must not end the node.
    """
    try:
        return client.loop_read() == MQTT_ERR_SUCCESS
    except Exception:
        log.exception("what the broker sent cannot be read")
        opened: Any = client.socket()
        if opened is not None:
            with contextlib.suppress(OSError):  # it may be closed by the other side already
                opened.shutdown(socket.SHUT_RDWR)
        return False


def checked_topic(topic: str) -> bytes:
    """Returns the topic of a PUBLISH, encoded, with its length in front.

    Raises:
        PayloadError: ``bad_topic``: a broker would end the connection for it.
    """
    try:
        return encode_topic(topic)
    except ValueError as error:
        raise PayloadError("bad_topic", f"cannot publish: {error}") from error


def too_large(topic: str, size: int, max_packet_bytes: int) -> PayloadError:
    """Returns the error for a message that fits into no packet.

    Args:
        topic: its topic.
        size: of topic and payload, in bytes.
        max_packet_bytes: what a packet may be.
    """
    return PayloadError(
        "too_large",
        f"a message of {size} bytes for {topic} is larger than a packet may be "
        f"({max_packet_bytes} bytes: broker.max_packet_bytes, or what the broker says)",
    )
