"""paho's client and the wire on it, made to a broker's configuration. Nothing connects yet."""

from __future__ import annotations

import logging
import socket
from typing import Any, NamedTuple

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from shared.config import BrokerConfig
from shared.mqtt.message import Will
from shared.mqtt.stock_wire import StockWire
from shared.mqtt.tap import TappedClient, misfit
from shared.mqtt.wire import TappedWire, Wire

CONNECT_TIMEOUT_S = 5.0
RECEIVE_BUFFER_BYTES = 2**20
SESSION_EXPIRY_S = 7 * 86_400
NO_LIMIT_BYTES = 2**32 - 1
DEFAULT_RECEIVE_MAXIMUM = 65_535

log = logging.getLogger(__name__)


class Limits(NamedTuple):
    """What a broker's CONNACK says about what it takes (MQTT 5, section 3.2.2.3).

    Attributes:
        receive_maximum: how many unacknowledged messages.
        max_packet_bytes: no larger packet.
        refuses_shared: it says that it has no shared subscriptions.
    """

    receive_maximum: int
    max_packet_bytes: int
    refuses_shared: bool


def limits_of(properties: Any) -> Limits:
    """Reads a CONNACK's properties; in 3.1.1 there are none."""
    return Limits(
        getattr(properties, "ReceiveMaximum", DEFAULT_RECEIVE_MAXIMUM),
        getattr(properties, "MaximumPacketSize", NO_LIMIT_BYTES),
        getattr(properties, "SharedSubscriptionAvailable", 1) == 0,
    )


def make_client(
    broker: BrokerConfig,
    client_id: str,
    persistent: bool,
    will: Will | None,
    receive_maximum: int | None,
) -> Client:
    """Makes a client: with a tap under it where this paho can be tapped.

    Args:
        broker: where and how to connect.
        client_id: unique at this broker.
        persistent: whether the broker keeps messages for us while we are away.
        will: last will.
        receive_maximum: how many unacknowledged messages the broker may send us (MQTT 5 only).
    """
    five = broker.protocol == "5"
    kind = TappedClient if misfit() is None else Client
    client = kind(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if five else not persistent,
        protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
        manual_ack=True,
        reconnect_on_failure=False,
    )
    client.on_socket_open = _on_socket_open
    client.on_socket_register_write = _on_register_write
    client.connect_timeout = CONNECT_TIMEOUT_S
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1, retain=True)
    if broker.username is not None:
        client.username_pw_set(broker.username, broker.password)
    host, port, keepalive_s = broker.host, broker.port, broker.keepalive_s
    if five:
        properties = _connect_properties(persistent, receive_maximum)
        client.connect_async(host, port, keepalive_s, "", 0, not persistent, properties)
    else:
        client.connect_async(host, port, keepalive_s)
    return client


def make_wire(client: Client, broker: BrokerConfig) -> Wire:
    """Makes the wire that fits a client."""
    five, largest = broker.protocol == "5", broker.max_packet_bytes
    if isinstance(client, TappedClient):
        return TappedWire(client, five=five, max_packet_bytes=largest)
    log.warning("slower than it could be: %s. Fix: install a paho-mqtt that is tested", misfit())
    return StockWire(client, five=five, max_packet_bytes=largest)


def _connect_properties(persistent: bool, receive_maximum: int | None) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = SESSION_EXPIRY_S if persistent else 0
    # No Maximum Packet Size: the broker would drop what is larger without a word, and we count it.
    if receive_maximum is not None:
        properties.ReceiveMaximum = min(receive_maximum, DEFAULT_RECEIVE_MAXIMUM)
    return properties


def _on_socket_open(client: Client, userdata: Any, opened: Any) -> None:
    # Without it, Nagle's algorithm makes a QoS 1 round trip 44 ms.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


def _on_register_write(client: Client, userdata: Any, opened: Any) -> None:
    """Its presence tells paho that the loop writes: one write for all queued packets."""
