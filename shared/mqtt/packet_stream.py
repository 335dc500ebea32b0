"""Takes the bytes of a connection apart: messages, acknowledgements, and what is paho's. Pure."""

from __future__ import annotations

from typing import NamedTuple

from shared.mqtt.message import Message
from shared.mqtt.packets import DUP, FAILED, PUBACK, PUBLISH, QOS_1, QOS_2, RETAIN, variable_integer

MAX_KNOWN_TOPICS = 10_000


class Skipped(NamedTuple):
    """A message that cannot be handed on.

    Attributes:
        reason: ``too_large`` or ``bad_topic``, as the counter of drops names it.
        topic: as far as it can be shown.
        mid: packet identifier, 0 at QoS 0; it must be acknowledged like any other.
        size: of the packet, in bytes.
        retain: whether the broker had kept it for later subscribers.
    """

    reason: str
    topic: str
    mid: int
    size: int
    retain: bool


class Arrivals(NamedTuple):
    """What came since it was last taken.

    Attributes:
        messages: in the order of arrival.
        mids: packet identifiers of all messages at QoS 1, the skipped ones among them, likewise.
        acknowledged: packet identifiers of our messages that the broker has answered.
        refused: reason codes of those of them that it refused (MQTT 5), by packet identifier.
        skipped: what cannot be handed on.
    """

    messages: list[Message]
    mids: list[int]
    acknowledged: list[int]
    refused: dict[int, int]
    skipped: list[Skipped]


def no_arrivals() -> Arrivals:
    """Returns what came where nothing did."""
    return Arrivals([], [], [], {}, [])


class PacketStream:
    """Takes the bytes of one connection apart.

    Args:
        five: whether it speaks MQTT 5.
        max_packet_bytes: the body of a larger PUBLISH is skipped as it comes, never kept.
        session: number of the connection, which its messages bear.
        topics: topics that came before; shared by the connections of a link.

    Attributes:
        arrivals: what came, for the caller to take.
        control: all other packets, whole and as they came.
    """

    def __init__(
        self, *, five: bool, max_packet_bytes: int, session: int, topics: dict[bytes, str]
    ) -> None:
        self._five = five
        self._max_packet_bytes = max_packet_bytes
        self._session = session
        self._topics = topics
        self._pieces: list[bytes] = []
        self._have_bytes = 0
        self._need_bytes = 2
        self._skip_bytes = 0
        self.arrivals = no_arrivals()
        self.control = bytearray()

    def take(self) -> Arrivals:
        """Returns what came since the last time."""
        arrivals, self.arrivals = self.arrivals, no_arrivals()
        return arrivals

    def feed(self, received: bytes) -> None:
        """Takes what was received.

        Raises:
            ValueError: it is not MQTT. What came before it is in ``arrivals``.
        """
        if self._skip_bytes:
            skipped = min(self._skip_bytes, len(received))
            self._skip_bytes -= skipped
            received = received[skipped:]
        have_bytes = self._have_bytes + len(received)
        # A large packet comes in many pieces: they are joined once, when it is whole.
        if have_bytes < self._need_bytes:
            self._pieces.append(received)
            self._have_bytes = have_bytes
            return
        if self._pieces:
            self._pieces.append(received)
            received = b"".join(self._pieces)
            self._pieces.clear()
        try:
            used = self._split(received)
        except IndexError:
            raise ValueError("a packet that is shorter than its fields") from None
        self._have_bytes = len(received) - used
        if self._have_bytes:
            self._pieces.append(received[used:])

    def _split(self, buffer: bytes) -> int:
        """Takes whole packets off; returns how many bytes they were, and notes what is needed."""
        at, end, largest = 0, len(buffer), self._max_packet_bytes
        acknowledge = self.arrivals.acknowledged.append
        self._need_bytes = 2
        while end - at >= 2:
            head, length, body = buffer[at], buffer[at + 1], at + 2
            if length > 127:
                length, body = variable_integer(buffer, at + 1, end)
                if body == 0:
                    self._need_bytes = end - at + 1
                    break
            stop = body + length
            if stop > end or stop - at > largest:
                after = self._incomplete(buffer, at, body, stop)
                if after == at:
                    break
                at = after
                continue
            if PUBLISH <= head < PUBACK and not head & QOS_2:
                self._publish(buffer, head, body, stop)
            elif length == 2 and head == PUBACK:
                acknowledge(buffer[body] << 8 | buffer[body + 1])
            elif head == PUBACK:
                self._long_puback(buffer, body, length)
            else:
                self.control += buffer[at:stop]
            at = stop
        return at

    def _publish(self, buffer: bytes, head: int, body: int, stop: int) -> None:
        at = body + 2 + (buffer[body] << 8 | buffer[body + 1])
        raw = buffer[body + 2 : at]
        mid = 0
        if head & QOS_1:
            mid = buffer[at] << 8 | buffer[at + 1]
            if mid == 0:
                raise ValueError("a PUBLISH at QoS 1 without a packet identifier")
            self.arrivals.mids.append(mid)
            at += 2
        if self._five:
            length, properties_at = variable_integer(buffer, at, stop)
            at = properties_at + length if properties_at else stop + 1
        if at > stop:
            raise ValueError("a PUBLISH that is shorter than its fields")
        topic = self._topics.get(raw) or self._name(raw)
        if topic is None:
            self._skip("bad_topic", raw, mid, stop - body, head)
            return
        self.arrivals.messages.append(
            Message(
                topic, buffer[at:stop], 1 if mid else 0, mid, self._session,
                head & DUP != 0, head & RETAIN != 0,
            )
        )  # fmt: skip

    def _long_puback(self, buffer: bytes, body: int, length: int) -> None:
        """Takes a PUBACK with a reason code (MQTT 5); its properties say nothing that we need."""
        if length < 2:
            raise ValueError("a PUBACK without a packet identifier")
        mid = buffer[body] << 8 | buffer[body + 1]
        if buffer[body + 2] >= FAILED:
            self.arrivals.refused[mid] = buffer[body + 2]
        self.arrivals.acknowledged.append(mid)

    def _name(self, raw: bytes) -> str | None:
        """Decodes a topic that is new, or returns None if it is no topic."""
        try:
            topic = raw.decode()
        except UnicodeDecodeError:
            return None
        if len(self._topics) >= MAX_KNOWN_TOPICS:
            self._topics.clear()
        if topic:
            self._topics[raw] = topic
        return topic or None

    def _incomplete(self, buffer: bytes, at: int, body: int, stop: int) -> int:
        """Waits for the rest of a packet, or begins to skip one that is too large.

        Returns:
            Where to go on: ``at`` if there is nothing to do before more comes.

        Raises:
            ValueError: a packet of another kind than PUBLISH that is too large.
        """
        if stop - at <= self._max_packet_bytes:
            self._need_bytes = stop - at
            return at
        if not PUBLISH <= buffer[at] < PUBACK:
            raise ValueError(f"a packet of {stop - at} bytes that is no message")
        end = len(buffer)
        topic_end = body + 2
        if end >= topic_end:
            topic_end += buffer[body] << 8 | buffer[body + 1]
        known_end = topic_end + 2 if buffer[at] & QOS_1 else topic_end
        if known_end > stop:
            raise ValueError("a PUBLISH that is shorter than its fields")
        if end < known_end:
            self._need_bytes = known_end - at
            return at
        mid = 0
        if known_end > topic_end:
            mid = buffer[topic_end] << 8 | buffer[topic_end + 1]
        if mid:
            self.arrivals.mids.append(mid)
        self._skip("too_large", buffer[body + 2 : topic_end], mid, stop - at, buffer[at])
        self._skip_bytes = max(0, stop - end)
        return min(stop, end)

    def _skip(self, reason: str, raw: bytes, mid: int, size: int, head: int) -> None:
        topic, retain = raw.decode(errors="replace"), head & RETAIN != 0
        self.arrivals.skipped.append(Skipped(reason, topic, mid, size, retain))
