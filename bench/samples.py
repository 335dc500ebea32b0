"""What the sensors send: packets that lack only their numbers, which are filled in when they go."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.packets import MAX_PACKET_ID, publish_head

ID_DIGITS = 10
VECTORS = 512
DECIMALS = 6
"""What a float32 holds: more digits would only slow the contestants' JSON down."""
SEED = 20_240_607

ID_HEAD = b'{"id": "'


@dataclass(frozen=True)
class Template:
    """A PUBLISH without its packet identifier and without its sample's id.

    Attributes:
        head: up to the packet identifier.
        middle: from there to the id.
        tail: from the id to the end.
    """

    head: bytes
    middle: bytes
    tail: bytes


class Feed:
    """An endless row of PUBLISH packets, numbered.

    Number n carries the id n, in ten digits, and the packet identifier n mod 65,535 + 1.

    Args:
        templates: taken in turn.
        qos: 0 or 1.
        named: whether the payload carries the id.
    """

    def __init__(self, templates: Sequence[Template], qos: int, *, named: bool) -> None:
        self.qos = qos
        self._templates = templates
        self._named = named

    def packets(self, first: int, count: int) -> bytes:
        """Returns ``count`` packets from number ``first`` on, joined."""
        parts: list[bytes] = []
        templates, qos, named = self._templates, self.qos, self._named
        for number in range(first, first + count):
            template = templates[number % len(templates)]
            parts.append(template.head)
            if qos:
                parts.append(packet_id(number))
            parts.append(template.middle)
            if named:
                parts.append(b"%010d" % number)
            parts.append(template.tail)
        return b"".join(parts)


def packet_id(number: int) -> bytes:
    """Returns the packet identifier of a packet by its number, as on the wire."""
    return (number % MAX_PACKET_ID + 1).to_bytes(2, "big")


def json_feed(topics: Sequence[str], size: int, qos: int) -> Feed:
    """Returns samples of the usual kind: a JSON object with id, timestamp and features.

    Args:
        topics: one for each sensor; the sensors take turns.
        size: numbers in a sample.
        qos: 0 or 1.
    """
    templates = []
    for vector, topic in zip(_vectors(VECTORS, size), itertools.cycle(topics), strict=False):
        features = json.dumps([round(float(number), DECIMALS) for number in vector])
        tail = f'", "timestamp": 1763900000.25, "features": {features}}}'.encode()
        payload_bytes = len(ID_HEAD) + ID_DIGITS + len(tail)
        templates.append(Template(publish_head(topic, qos, payload_bytes), ID_HEAD, tail))
    return Feed(templates, qos, named=True)


def raw_feed(topics: Sequence[str], size: int, pack: int, qos: int) -> Feed:
    """Returns packs of samples as raw little-endian float32.

    Args:
        topics: one for each sensor; the sensors take turns.
        size: numbers in a sample.
        pack: samples in a message.
        qos: 0 or 1.
    """
    templates = []
    for vector, topic in zip(_vectors(VECTORS, size * pack), itertools.cycle(topics), strict=False):
        payload = vector.astype("<f4").tobytes()
        templates.append(Template(publish_head(topic, qos, len(payload)), b"", payload))
    return Feed(templates, qos, named=False)


def _vectors(count: int, size: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.random.default_rng(SEED).standard_normal((count, size))
