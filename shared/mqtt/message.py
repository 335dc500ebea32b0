"""What a link brings, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message as it came. A struct, for it is made once for each of many thousands a second.

    Attributes:
        topic: its topic.
        payload: its bytes.
        qos: 0 or 1.
        mid: the broker's number for it, 0 for QoS 0.
        session: number of the connection that it came on.
        dup: whether the broker brings it again.
        retain: whether the broker had kept it for later subscribers.
    """

    topic: str
    payload: bytes
    qos: int
    mid: int
    session: int
    dup: bool = False
    retain: bool = False


@dataclass(frozen=True)
class Will:
    """What the broker publishes, retained, when this client vanishes."""

    topic: str
    payload: bytes
