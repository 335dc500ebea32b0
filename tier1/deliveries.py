"""Recognises a sample that the broker brings again. Pure."""

from __future__ import annotations

from collections import OrderedDict

from shared.mqtt.message import Message

MAX_ANSWERED = 10_000

Key = tuple[int, str, bytes]


class Deliveries:
    """The QoS 1 samples that are under way, and the last ones that were answered.

    A broker delivers what was not acknowledged again on the next connection, with the DUP flag and
    the same packet identifier (MQTT 3.1.1, section 4.4). This node may well have it in hand still,
    or have answered it while the connection was away: then it must not answer a second time.
    """

    def __init__(self) -> None:
        self._under_way: dict[Key, Message] = {}
        self._answered: OrderedDict[Key, None] = OrderedDict()

    def is_under_way(self, message: Message) -> bool:
        """Whether this is a repetition of a sample that still waits for its answer.

        If it is, the repetition takes the place of the first delivery: it is what the broker now
        wants acknowledged.
        """
        key = _key(message)
        if not message.dup or key not in self._under_way:
            return False
        self._under_way[key] = message
        return True

    def is_answered(self, message: Message) -> bool:
        """Whether this is a repetition of a sample that has its answer."""
        return message.dup and _key(message) in self._answered

    def begin(self, message: Message) -> None:
        """Notes a sample that is taken on."""
        if message.qos:
            self._under_way[_key(message)] = message

    def answered(self, message: Message) -> None:
        """Notes that a sample's answer is on its way, and cannot be lost any more."""
        if message.qos:
            self._answered[_key(message)] = None
            if len(self._answered) > MAX_ANSWERED:
                self._answered.popitem(last=False)

    def end(self, message: Message) -> Message:
        """Forgets a sample that was under way; returns its latest delivery, to be acknowledged."""
        return self._under_way.pop(_key(message), message)


def _key(message: Message) -> Key:
    return (message.mid, message.topic, message.payload)
