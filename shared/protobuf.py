"""Reads Protocol Buffers, the format of an ONNX file, from bytes that nobody vouches for.

It is at least as strict as the parser of ONNX Runtime: what that one would read otherwise, such as
a field number beyond 29 bits, is refused.

Source: Protocol Buffers, "Encoding".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from functools import cache

from shared.errors import ArtefactError

MAX_VARINT_BYTES = 10
MAX_KEY = 2**32
UINT64 = 2**64 - 1
Value = int | memoryview

FIXED_BYTES = {1: 8, 5: 4}  # wire types of fixed length
VARINT, LENGTH_DELIMITED = 0, 2

Fields = Mapping[int, list[Value]]


class Reader:
    """Reads messages field by field, and not for ever.

    Args:
        max_fields: of all messages together; a run of numbers that nobody wants counts once.
    """

    def __init__(self, max_fields: int) -> None:
        self._max_fields = self._left = max_fields

    def fields(
        self, message: memoryview, wanted: Container[int] | None = None
    ) -> Iterator[tuple[int, Value]]:
        """Yields a message's fields: their number, and the integer or the bytes in them.

        Args:
            message: the bytes.
            wanted: numbers of the fields to yield; None for all.

        Raises:
            ArtefactError: the bytes are damaged, or hold too many fields.
        """
        place = 0
        while place < len(message):
            if self._left <= 0:
                raise ArtefactError(f"it holds more than {self._max_fields:,} fields")
            self._left -= 1
            start = place
            key, place = _key(message, place)
            number, wire_type = key >> 3, key & 7
            value, place = _value(message, place, wire_type)
            if wanted is None or number in wanted:
                if value is not None:
                    yield number, value
            elif wire_type != LENGTH_DELIMITED and message[start] < 0x80:
                place = _end_of_run(message, start, place, wire_type)


def fields(message: memoryview) -> Fields:
    """Returns all fields of a message by their number: integers, or the bytes in them.

    Raises:
        ArtefactError: it is damaged.
    """
    found: defaultdict[int, list[Value]] = defaultdict(list)
    for number, value in Reader(max(1, len(message))).fields(message):
        found[number].append(value)
    return found


def varints(value: Value) -> Iterator[int]:
    """Yields the integers of a repeated field; they come one by one, or many in one field.

    Raises:
        ArtefactError: the last one does not end.
    """
    if isinstance(value, int):
        yield value
        return
    place = 0
    while place < len(value):
        number, place = _varint(value, place)
        yield number


def signed(number: int) -> int:
    """Returns the int64 that a varint stands for."""
    return number - 2**64 if number >= 2**63 else number


def message_in(value: Value) -> memoryview:
    """Returns the bytes of a field.

    Raises:
        ArtefactError: it is a number.
    """
    if isinstance(value, int):
        raise ArtefactError("not an ONNX file: a number where a message should be")
    return value


def text_in(value: Value) -> str:
    """Returns the text of a field, as ``message_in`` returns its bytes."""
    return bytes(message_in(value)).decode(errors="replace")


def _key(message: memoryview, place: int) -> tuple[int, int]:
    key, after = _varint(message, place)
    if not 8 <= key < MAX_KEY or after - place > 5:
        raise ArtefactError(f"not an ONNX file: field number {key >> 3}")
    return key, after


def _value(message: memoryview, place: int, wire_type: int) -> tuple[Value | None, int]:
    """Returns what a field holds, None for a number of fixed length, and the place after it."""
    if wire_type == VARINT:
        return _varint(message, place)
    if wire_type == LENGTH_DELIMITED:
        size, place = _varint(message, place)
    elif wire_type in FIXED_BYTES:
        size = FIXED_BYTES[wire_type]
    else:
        raise ArtefactError(f"not an ONNX file: wire type {wire_type}")
    if size > len(message) - place:
        raise ArtefactError("not an ONNX file, or a part of one: it ends within a field")
    end = place + size
    return (message[place:end] if wire_type == LENGTH_DELIMITED else None), end


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Returns an integer and the place after it; bits beyond the 64th fall away, as in C++."""
    if place < len(message) and message[place] < 0x80:
        return message[place], place + 1
    value = 0
    for position, byte in enumerate(message[place : place + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return value & UINT64, place + position + 1
    raise ArtefactError("not an ONNX file: an integer does not end")


def _end_of_run(message: memoryview, start: int, place: int, wire_type: int) -> int:
    """Returns the place after all numbers of the same field that follow one another.

    A decision tree's file holds millions of them, too many to read one by one.
    """
    run = _run(message[start], wire_type).match(message, place)
    return place if run is None else run.end()


@cache
def _run(key: int, wire_type: int) -> re.Pattern[bytes]:
    fixed = FIXED_BYTES.get(wire_type)
    number = b".{%d}" % fixed if fixed else rb"[\x80-\xff]{0,9}+[\x00-\x7f]"
    # Possessive: a run of millions keeps no place to come back to.
    return re.compile(b"(?:%s%s)*+" % (re.escape(bytes([key])), number), re.DOTALL)
