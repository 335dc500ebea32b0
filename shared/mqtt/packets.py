"""The two packets that carry all the traffic, PUBLISH and PUBACK, as bytes. Pure.

Everything else (CONNECT, SUBSCRIBE, PINGREQ and their answers) is left to paho.

Source: MQTT 3.1.1 sections 2.2, 3.3, 3.4; MQTT 5 sections 2.1, 3.3, 3.4.
"""

from __future__ import annotations

import struct

PUBLISH = 0x30
PUBACK = 0x40
DISCONNECT = 0xE0
DUP = 0x08
QOS_1 = 0x02
QOS_2 = 0x04
RETAIN = 0x01
MAX_REMAINING = 268_435_455
MAX_OVERHEAD_BYTES = 16
"""What a PUBLISH holds beside topic and payload, at most: header, number, properties."""
MAX_TOPIC_BYTES = 65_535
MAX_EXPIRY_S = 2**32 - 1
MESSAGE_EXPIRY = 0x02
NO_PROPERTIES = b"\x00"
FAILED = 0x80

_pack_puback = struct.Struct(">HH").pack
_pack_short_head = struct.Struct(">BB").pack
_pack_head = struct.Struct(">BBB").pack
_pack_mid = struct.Struct(">H").pack


def encode_topic(topic: str) -> bytes:
    """Encodes the topic of a PUBLISH, with its length in front.

    Raises:
        ValueError: a broker would end the connection for it: empty, too long, a wildcard, a
            control character, or not UTF-8.
    """
    name = topic.encode()
    if not name or len(name) > MAX_TOPIC_BYTES:
        raise ValueError(f"a topic of {len(name)} bytes; 1 to {MAX_TOPIC_BYTES} are allowed")
    if not topic.isprintable() or "+" in topic or "#" in topic:
        raise ValueError(f"{topic!r} holds a wildcard or an unprintable character")
    return len(name).to_bytes(2, "big") + name


def encode_publish(
    topic: bytes, payload: bytes, mid: int, *, retain: bool = False, properties: bytes = b""
) -> bytes:
    """Encodes a PUBLISH.

    Args:
        topic: as ``encode_topic`` returns it.
        payload: its bytes.
        mid: packet identifier; 0 makes it QoS 0.
        retain: whether the broker keeps it.
        properties: with their length in front, as MQTT 5 wants them; empty for 3.1.1.

    Raises:
        ValueError: longer than MQTT can say.
    """
    length = len(topic) + len(properties) + len(payload)
    if mid:
        head = PUBLISH | QOS_1 | retain
        return _fixed_header(head, length + 2) + topic + _pack_mid(mid) + properties + payload
    return _fixed_header(PUBLISH | retain, length) + topic + properties + payload


def again(packet: bytes) -> bytes:
    """Returns a PUBLISH with the flag that says: it may have come before."""
    return bytes((packet[0] | DUP,)) + packet[1:]


def for_the_first_time(packet: bytes) -> bytes:
    """Returns a PUBLISH without that flag, for a broker that has forgotten us."""
    return bytes((packet[0] & ~DUP,)) + packet[1:] if packet[0] & DUP else packet


def encode_puback(mid: int) -> bytes:
    """Encodes a PUBACK that says success, the same in MQTT 3.1.1 and 5."""
    return _pack_puback(0x4002, mid)


def encode_expiry(expiry_s: float | None) -> bytes:
    """Returns the properties of an MQTT 5 PUBLISH: none, or the message expiry interval.

    Args:
        expiry_s: in seconds, rounded to whole ones, at least one; None for no expiry.
    """
    if expiry_s is None:
        return NO_PROPERTIES
    whole_s = int(min(max(1.0, expiry_s + 0.5), MAX_EXPIRY_S))
    return bytes((5, MESSAGE_EXPIRY)) + whole_s.to_bytes(4, "big")


def variable_integer(buffer: bytes, at: int, end: int) -> tuple[int, int]:
    """Decodes a variable byte integer.

    Args:
        buffer: holds it.
        at: where it begins.
        end: where what is there ends.

    Returns:
        The number and where it ends; that is 0 if it is not all there.

    Raises:
        ValueError: more than four bytes of it.
    """
    length = 0
    for index in range(4):
        if at + index >= end:
            return 0, 0
        byte = buffer[at + index]
        length |= (byte & 0x7F) << 7 * index
        if byte < 128:
            return length, at + index + 1
    raise ValueError("a length of more than four bytes")


def _fixed_header(head: int, length: int) -> bytes:
    if length < 128:
        return _pack_short_head(head, length)
    if length < 16_384:
        return _pack_head(head, length & 0x7F | 0x80, length >> 7)
    if length > MAX_REMAINING:
        raise ValueError(f"a packet of {length} bytes is longer than MQTT can say")
    encoded = bytearray((head,))
    while length > 127:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)
