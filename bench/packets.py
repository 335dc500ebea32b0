"""The few MQTT 3.1.1 packets of the load generator and the yardstick, encoded by no contestant.

Source: OASIS MQTT 3.1.1, chapters 2 and 3.
"""

from __future__ import annotations

from typing import NamedTuple

PUBLISH = 0x30
PUBACK = 0x40
CONNACK = 0x20
SUBACK = 0x90
DISCONNECT = b"\xe0\x00"
MAX_REMAINING_LENGTH = 268_435_455
MAX_PACKET_ID = 65_535


class MalformedStreamError(ValueError):
    """The peer's bytes are not MQTT."""


class Frame(NamedTuple):
    """Where a packet lies in a buffer.

    Attributes:
        first: its first byte: type in the upper four bits, flags in the lower.
        body: index of the first byte behind the fixed header.
        end: index behind its last byte.
    """

    first: int
    body: int
    end: int


def remaining_length(size: int) -> bytes:
    """Returns the length field of a fixed header (2.2.3).

    Args:
        size: bytes that follow the fixed header, 0 to 268,435,455.

    Raises:
        ValueError: it is outside that range.
    """
    if not 0 <= size <= MAX_REMAINING_LENGTH:
        raise ValueError(f"a packet has 0 to {MAX_REMAINING_LENGTH} bytes, not {size}")
    digits = bytearray()
    while True:
        size, low = divmod(size, 128)
        digits.append(low | 0x80 if size else low)
        if not size:
            return bytes(digits)


def text(value: str) -> bytes:
    """Returns a UTF-8 string with its length before it (1.5.3)."""
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def packet(first: int, body: bytes) -> bytes:
    """Returns a whole packet."""
    return bytes([first]) + remaining_length(len(body)) + body


def connect(client_id: str) -> bytes:
    """Returns a CONNECT with a clean session and no keepalive (3.1)."""
    return packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text(client_id))


def subscribe(topic_filter: str, qos: int) -> bytes:
    """Returns a SUBSCRIBE with packet identifier 1 (3.8)."""
    return packet(0x82, b"\x00\x01" + text(topic_filter) + bytes([qos]))


def publish_head(topic: str, qos: int, payload_bytes: int) -> bytes:
    """Returns a PUBLISH up to its packet identifier, which at QoS 0 is left out (3.3).

    Args:
        topic: the topic's name.
        qos: 0 or 1.
        payload_bytes: size of the payload that will follow.
    """
    identifier_bytes = 2 if qos else 0
    size = len(text(topic)) + identifier_bytes + payload_bytes
    return bytes([PUBLISH | qos << 1]) + remaining_length(size) + text(topic)


def puback(identifier: bytes) -> bytes:
    """Returns a PUBACK (3.4).

    Args:
        identifier: the two bytes of the packet identifier.
    """
    return b"\x40\x02" + identifier


def frames(buffer: bytes | bytearray) -> tuple[list[Frame], int]:
    """Finds the whole packets at the start of a buffer.

    Returns:
        Where they lie, and how many bytes they take; what is left is the start of a packet.

    Raises:
        MalformedStreamError: a length field has more than four bytes.
    """
    found: list[Frame] = []
    start, size = 0, len(buffer)
    while start + 2 <= size:
        length, at = buffer[start + 1], start + 2
        if length & 0x80:
            long_length = _long_length(buffer, start + 1)
            if long_length is None:
                break
            length, at = long_length
        end = at + length
        if end > size:
            break
        found.append(Frame(buffer[start], at, end))
        start = end
    return found, start


def _long_length(buffer: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """Returns a length of several bytes and where it ends; None while bytes are missing."""
    length = 0
    for place, digit in enumerate(buffer[at : at + 4]):
        length |= (digit & 0x7F) << 7 * place
        if not digit & 0x80:
            return length, at + place + 1
    if len(buffer) >= at + 4:
        raise MalformedStreamError("a remaining length of more than four bytes")
    return None
