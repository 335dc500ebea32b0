"""A stream of bytes gives the same packets however it is cut, and nonsense ends in ValueError."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.mqtt.message import Message
from shared.mqtt.packet_stream import MAX_KNOWN_TOPICS, PacketStream, Skipped
from shared.mqtt.packets import again, encode_publish, encode_topic

LIMIT_BYTES = 300
SESSION = 4

SUBACK = b"\x90\x03\x00\x01\x01"
PINGRESP = b"\xd0\x00"


@dataclass
class Expected:
    """What a stream of packets should give."""

    data: bytes = b""
    messages: list[Message] = field(default_factory=list)
    mids: list[int] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    refused: dict[int, int] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    control: bytes = b""


def stream(*, five: bool = False) -> PacketStream:
    return PacketStream(five=five, max_packet_bytes=LIMIT_BYTES, session=SESSION, topics={})


@st.composite
def conversations(draw: st.DrawFn, *, five: bool) -> Expected:
    expected = Expected()
    for _ in range(draw(st.integers(0, 8))):
        add = draw(st.sampled_from([_add_message, _add_puback, _add_control]))
        add(draw, expected, five)
    return expected


def _add_message(draw: st.DrawFn, expected: Expected, five: bool) -> None:
    topic = draw(st.text("abc/é", min_size=1, max_size=9))
    payload = draw(st.one_of(st.binary(max_size=20), st.binary(min_size=100, max_size=600)))
    mid = draw(st.one_of(st.just(0), st.integers(1, 65_535)))
    retain, dup = draw(st.booleans()), draw(st.booleans()) and mid > 0
    properties = draw(st.sampled_from([b"\0", b"\x05\x02\0\0\0\x07", b"\x02\x01\x01"]))
    packet = encode_publish(
        encode_topic(topic), payload, mid, retain=retain, properties=properties if five else b""
    )
    if dup:
        packet = again(packet)
    expected.data += packet
    if mid:
        expected.mids.append(mid)
    if len(packet) > LIMIT_BYTES:
        expected.skipped.append(Skipped("too_large", topic, mid, len(packet), retain))
    else:
        expected.messages.append(
            Message(topic, payload, 1 if mid else 0, mid, SESSION, dup, retain)
        )


def _add_puback(draw: st.DrawFn, expected: Expected, five: bool) -> None:
    mid = draw(st.integers(1, 65_535))
    code = draw(st.sampled_from([None, 0x00, 0x10, 0x87, 0x97])) if five else None
    number = mid.to_bytes(2, "big")
    if code is None:
        expected.data += b"\x40\x02" + number
    else:
        with_properties = draw(st.booleans())
        body = number + bytes((code,)) + (b"\0" if with_properties else b"")
        expected.data += bytes((0x40, len(body))) + body
        if code >= 0x80:
            expected.refused[mid] = code
    expected.acknowledged.append(mid)


def _add_control(draw: st.DrawFn, expected: Expected, five: bool) -> None:
    packet = draw(st.sampled_from([SUBACK, PINGRESP, b"\xb0\x02\x00\x05"]))
    expected.data += packet
    expected.control += packet


@pytest.mark.parametrize("five", [False, True], ids=["3.1.1", "5"])
@given(data=st.data())
def test_any_cuts_through_a_stream_give_the_same_packets(data: st.DataObject, five: bool) -> None:
    expected = data.draw(conversations(five=five))
    cuts = data.draw(st.lists(st.integers(0, len(expected.data)), max_size=12))
    reader = stream(five=five)
    edges = [0, *sorted(cuts), len(expected.data)]
    for start, stop in pairwise(edges):
        reader.feed(expected.data[start:stop])
    arrivals = reader.take()
    assert arrivals.messages == expected.messages
    assert arrivals.mids == expected.mids
    assert arrivals.acknowledged == expected.acknowledged
    assert arrivals.refused == expected.refused
    assert arrivals.skipped == expected.skipped
    assert bytes(reader.control) == expected.control
    assert reader.take().messages == []


@pytest.mark.parametrize("five", [False, True], ids=["3.1.1", "5"])
@given(pieces=st.lists(st.binary(max_size=60), max_size=6))
@example(pieces=[b"\x32\x05\x00\xff\x00\x00\x00"])
@example(pieces=[b"\x30\x00"])
@example(pieces=[b"\x40\x01\x00", b"\x00"])
@example(pieces=[b"\x33\xff\x02", b"\xff\xff", b"x" * 300])
@settings(max_examples=500)
def test_arbitrary_bytes_are_packets_or_a_value_error(pieces: list[bytes], five: bool) -> None:
    reader = stream(five=five)
    try:
        for piece in pieces:
            reader.feed(piece)
    except ValueError:
        return
    for message in reader.take().messages:
        assert message.topic
        assert len(message.payload) <= LIMIT_BYTES


@given(st.data())
def test_a_damaged_packet_is_a_packet_or_a_value_error(data: st.DataObject) -> None:
    expected = data.draw(conversations(five=True).filter(lambda made: bool(made.data)))
    damaged = bytearray(expected.data)
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at] = data.draw(st.integers(0, 255))
    reader = stream(five=True)
    try:
        reader.feed(bytes(damaged))
    except ValueError:
        return
    assert reader.take().messages is not None


def test_what_came_before_nonsense_is_kept() -> None:
    reader = stream()
    with pytest.raises(ValueError, match="without a packet identifier"):
        reader.feed(encode_publish(encode_topic("t"), b"x", 7) + b"\x32\x05\x00\x01t\x00\x00")
    assert [message.payload for message in reader.take().messages] == [b"x"]


def test_a_large_packet_is_joined_once_and_not_parsed_at_each_piece() -> None:
    reader = PacketStream(five=False, max_packet_bytes=2**22, session=1, topics={})
    packet = encode_publish(encode_topic("t"), bytes(2**21), 1)
    splits: list[int] = []
    split = reader._split

    def counted(buffer: bytes) -> int:
        splits.append(len(buffer))
        return split(buffer)

    reader._split = counted  # type: ignore[method-assign]
    for start in range(0, len(packet), 4096):
        reader.feed(packet[start : start + 4096])
    assert splits == [4096, len(packet)]
    assert len(reader.take().messages[0].payload) == 2**21


def test_a_skipped_body_is_not_kept() -> None:
    reader = stream()
    packet = encode_publish(encode_topic("t"), bytes(100_000), 1)
    for start in range(0, len(packet), 1000):
        reader.feed(packet[start : start + 1000])
        assert sum(map(len, reader._pieces)) == 0
    reader.feed(PINGRESP)
    assert reader.control == PINGRESP


@pytest.mark.parametrize(
    ("head", "topic_bytes"), [(0x30, 400), (0x32, 398), (0x32, 399)],
    ids=["no payload", "a number and no payload", "half a number"],
)  # fmt: skip
def test_a_topic_that_fills_a_packet_that_is_too_large(head: int, topic_bytes: int) -> None:
    body = topic_bytes.to_bytes(2, "big") + b"t" * 400
    packet = bytes((head, 0x80 | len(body) & 0x7F, len(body) >> 7)) + body
    reader = stream()
    if topic_bytes == 399:
        with pytest.raises(ValueError, match="shorter than its fields"):
            reader.feed(packet)
        return
    reader.feed(packet + PINGRESP)
    (skipped,) = reader.take().skipped
    assert (skipped.topic, skipped.mid > 0) == ("t" * topic_bytes, head == 0x32)
    assert reader.control == PINGRESP


@pytest.mark.parametrize("raw", [b"\xff\xfe", b""], ids=["not UTF-8", "empty"])
def test_a_message_whose_topic_is_none_is_skipped_with_its_number(raw: bytes) -> None:
    body = len(raw).to_bytes(2, "big") + raw + b"\x00\x09x"
    reader = stream()
    reader.feed(bytes((0x32, len(body))) + body)
    arrivals = reader.take()
    assert (arrivals.messages, arrivals.mids) == ([], [9])
    assert [(each.reason, each.mid) for each in arrivals.skipped] == [("bad_topic", 9)]


def test_a_message_at_qos_2_is_left_to_paho() -> None:
    packet = b"\x34\x06\x00\x01t\x00\x09x"
    reader = stream()
    reader.feed(packet)
    assert bytes(reader.control) == packet
    assert reader.take().mids == []


def test_topics_that_came_before_are_known_and_bounded() -> None:
    topics: dict[bytes, str] = {}
    reader = PacketStream(five=False, max_packet_bytes=LIMIT_BYTES, session=1, topics=topics)
    for index in range(MAX_KNOWN_TOPICS + 5):
        reader.feed(encode_publish(encode_topic(f"t/{index}"), b"", 0))
    assert 0 < len(topics) <= MAX_KNOWN_TOPICS
    reader.feed(encode_publish(encode_topic("t/0"), b"", 0) * 2)
    first, second = reader.take().messages[-2:]
    assert first.topic is second.topic
