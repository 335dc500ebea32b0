"""Samples under way, and the recognition of one that the broker brings again. Pure."""

from __future__ import annotations

import hashlib
import uuid

import msgspec

from shared.messages import Timestamp
from shared.mqtt.message import Message
from tier1.formats.decoded import Rows

MAX_ANSWERED = 4096
NO_ROWS: Rows = []


class Taken(msgspec.Struct, gc=False, eq=False):
    """A message of samples that this node has in hand.

    Attributes:
        message: how it came, its latest delivery; acknowledged when it is answered.
        sensor: who sent it.
        received_s: when, monotonic.
        rows: the samples: a flat list of one sample's numbers, or [N, ...].
        id: the sample's or the pack's.
        timestamp: the sensor's, or when it was received, seconds since 1970.
        size: how many samples it is.
        is_pack: whether it is answered as a pack, be it of one.
        ids: of a pack's samples, where they have ids of their own.
    """

    message: Message
    sensor: str
    received_s: float
    rows: Rows
    id: str
    timestamp: Timestamp
    size: int = 1
    is_pack: bool = False
    ids: tuple[str, ...] | None = None


class Deliveries:
    """The QoS 1 samples that are under way, and the last ones that were answered.

    A broker delivers what was not acknowledged again on the next connection, with the DUP flag and
    the same packet identifier (MQTT 3.1.1, section 4.4). This node may well have it in hand still,
    or have answered it while the connection was away: then it must not answer a second time. What
    is under way has one of 65,535 packet identifiers, which bounds it.
    """

    def __init__(self) -> None:
        self._under_way: dict[int, Taken] = {}
        self._answered: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def is_under_way(self, message: Message) -> bool:
        """Whether this is a repetition of a sample that still waits for its answer.

        If it is, the repetition takes the place of the first delivery: it is what the broker now
        wants acknowledged.
        """
        taken = self._under_way.get(message.mid) if message.dup else None
        if taken is None or not _same(taken.message, message):
            return False
        taken.message = message
        return True

    def is_answered(self, message: Message) -> bool:
        """Whether this is a repetition of a sample that has its answer.

        It is one only of what came on the connection before. A broker that was killed may count
        from a lower number again, and bring the same bytes of a sensor that repeats itself: what is
        answered twice is less harm than what is not answered.
        """
        before = _mark(message, message.session - 1)
        if not message.dup or self._answered.get(message.mid) != before:
            return False
        self._answered[message.mid] = _mark(message, message.session)
        return True

    def begin(self, taken: Taken) -> None:
        """Notes a sample that is taken on."""
        if taken.message.qos:
            self._under_way[taken.message.mid] = taken

    def answered(self, taken: Taken) -> None:
        """Notes that a sample's answer is on its way, and cannot be lost any more."""
        message, answered = taken.message, self._answered
        if message.qos:
            answered.pop(message.mid, None)  # so that it counts as the latest
            answered[message.mid] = _mark(message, message.session)
            if len(answered) > MAX_ANSWERED:
                del answered[next(iter(answered))]

    def end(self, taken: Taken) -> Message:
        """Forgets a sample that was under way; returns its latest delivery, to be acknowledged."""
        # Another sample may have its number by now, if the broker has lost our session.
        if self._under_way.get(taken.message.mid) is taken:
            del self._under_way[taken.message.mid]
        return taken.message


def made_id(message: Message, receiver: str) -> str:
    """Returns an id for a sample that has none.

    A QoS 1 delivery that comes again, be it to the next life of this node, gets the same id: topic,
    packet identifier and payload are what a repetition has in common with the first (MQTT 3.1.1,
    section 4.4). At QoS 0 nothing comes again, and the id is random.

    Args:
        message: how the sample came.
        receiver: to whom. Packet identifiers are a session's own, and workers have one each.
    """
    if not message.qos:
        return uuid.uuid4().hex
    head = f"{receiver}\0{message.topic}\0".encode() + message.mid.to_bytes(2, "big")
    return hashlib.sha256(head + message.payload).hexdigest()[:32]


def _same(one: Message, other: Message) -> bool:
    return one.topic == other.topic and one.payload == other.payload


def _mark(message: Message, session: int) -> int:
    """Stands for a message on a connection without keeping its payload."""
    return hash((message.topic, message.payload, session))
