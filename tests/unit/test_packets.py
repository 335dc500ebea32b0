"""PUBLISH and PUBACK are encoded as paho encodes them, within the rules of MQTT."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from shared.mqtt.packets import (
    MAX_REMAINING,
    NO_PROPERTIES,
    again,
    encode_expiry,
    encode_puback,
    encode_publish,
    encode_topic,
    for_the_first_time,
    variable_integer,
)


class Recorder(Client):
    """paho's client, that queues for nobody."""

    def __init__(self, protocol: MQTTProtocolVersion) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, protocol=protocol)
        self.packets: list[bytes] = []
        self._sock: Any = self

    def _packet_queue(self, command: int, packet: bytes | bytearray, *rest: Any) -> Any:
        self.packets.append(bytes(packet))
        return 0

    def close(self) -> None:
        """Is a socket too."""


def by_paho(
    protocol: MQTTProtocolVersion, topic: str, payload: bytes, qos: int, retain: bool, **how: Any
) -> tuple[bytes, int]:
    """Returns how paho encodes a PUBLISH, and the number that it gave it."""
    client = Recorder(protocol)
    info = client.publish(topic, payload, qos, retain, **how)
    return client.packets[0], info.mid


TOPICS = st.text(st.characters(categories=("L", "N", "P"), exclude_characters="+#"), min_size=1)


@given(topic=TOPICS, payload=st.binary(), qos=st.sampled_from([0, 1]), retain=st.booleans())
@pytest.mark.parametrize("protocol", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5])
def test_a_publish_is_what_paho_makes_of_it(
    protocol: MQTTProtocolVersion, topic: str, payload: bytes, qos: int, retain: bool
) -> None:
    theirs, mid = by_paho(protocol, topic, payload, qos, retain)
    properties = NO_PROPERTIES if protocol == MQTTProtocolVersion.MQTTv5 else b""
    number = mid if qos else 0
    ours = encode_publish(
        encode_topic(topic), payload, number, retain=retain, properties=properties
    )
    assert ours == theirs


@pytest.mark.parametrize("size", [0, 100, 127, 128, 16_000, 16_383, 16_384, 2_097_151, 2_100_000])
def test_a_length_is_encoded_as_paho_does_at_every_size(size: int) -> None:
    theirs, mid = by_paho(MQTTProtocolVersion.MQTTv311, "t", bytes(size), 1, False)
    assert encode_publish(encode_topic("t"), bytes(size), mid) == theirs


def test_an_expiry_is_encoded_as_paho_does() -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = 90
    theirs, mid = by_paho(MQTTProtocolVersion.MQTTv5, "t", b"x", 1, False, properties=properties)
    assert encode_publish(encode_topic("t"), b"x", mid, properties=encode_expiry(90.0)) == theirs


@pytest.mark.parametrize(
    ("expiry_s", "whole_s"), [(0.0, 1), (0.4, 1), (1.4, 1), (1.5, 2), (5e9, 2**32 - 1)]
)
def test_an_expiry_is_whole_seconds_that_mqtt_can_say(expiry_s: float, whole_s: int) -> None:
    assert encode_expiry(expiry_s) == b"\x05\x02" + whole_s.to_bytes(4, "big")


def test_a_puback_says_success() -> None:
    assert encode_puback(0x1234) == b"\x40\x02\x12\x34"


@pytest.mark.parametrize(
    "topic", ["", "a/+/b", "a/#", "a\0b", "a\x1fb", "x" * 65_536, "ä" * 40_000],
    ids=["empty", "plus", "hash", "nul", "control", "too long", "too long in UTF-8"],
)  # fmt: skip
def test_a_topic_that_a_broker_would_end_the_connection_for_is_refused(topic: str) -> None:
    with pytest.raises(ValueError, match=r"topic|wildcard"):
        encode_topic(topic)


def test_what_is_not_unicode_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode_topic("\ud800")


def test_a_packet_longer_than_mqtt_can_say_is_refused() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return MAX_REMAINING

    with pytest.raises(ValueError, match="longer than MQTT"):
        encode_publish(encode_topic("t"), Huge(), 1)


def test_the_flag_of_a_repetition_comes_and_goes() -> None:
    packet = encode_publish(encode_topic("t"), b"x", 5, retain=True)
    repeated = again(packet)
    assert (packet[0], repeated[0]) == (0x33, 0x3B)
    assert repeated[1:] == packet[1:]
    assert again(repeated) == repeated
    assert for_the_first_time(repeated) == packet
    assert for_the_first_time(packet) is packet


@given(st.integers(0, MAX_REMAINING))
def test_a_variable_integer_is_read_back_and_awaited_while_it_is_not_whole(number: int) -> None:
    encoded, rest = bytearray(), number
    while True:
        encoded.append(rest & 0x7F | (0x80 if rest > 127 else 0))
        rest >>= 7
        if not rest:
            break
    buffer = bytes(encoded)
    assert variable_integer(b"?" + buffer, 1, 1 + len(buffer)) == (number, 1 + len(buffer))
    for length in range(len(buffer)):
        assert variable_integer(buffer, 0, length) == (0, 0)


def test_a_variable_integer_of_five_bytes_is_no_mqtt() -> None:
    with pytest.raises(ValueError, match="four bytes"):
        variable_integer(b"\xff\xff\xff\xff\x01", 0, 5)
