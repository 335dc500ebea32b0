"""Which sample was sent, acknowledged and answered, and when."""

from __future__ import annotations

import re
from collections.abc import Iterator

ID = re.compile(rb'"id": ?"(\d{10})"')
"""Finds a sample's id in an answer, however its sender spaces JSON."""


class Ledger:
    """The messages of one load, by number.

    Attributes:
        sent_s: when each was handed to the socket.
        acknowledged: those that the broker acknowledged to the sensor.
        answered_s: when the first answer to each came.
        duplicates: further answers to the same samples.
    """

    def __init__(self) -> None:
        self.sent_s: dict[int, float] = {}
        self.acknowledged: set[int] = set()
        self.answered_s: dict[int, float] = {}
        self.duplicates = 0
        self._awaiting_ack: dict[bytes, int] = {}

    def note_sent(self, number: int, packet_id: bytes, now_s: float) -> None:
        """Notes a message.

        Args:
            number: its number.
            packet_id: the two bytes on the wire; free again once it is acknowledged.
            now_s: when it went.
        """
        self.sent_s[number] = now_s
        self._awaiting_ack[packet_id] = number

    def note_acknowledgements(self, pubacks: bytes) -> None:
        """Notes the broker's PUBACKs, four bytes each."""
        for start in range(0, len(pubacks), 4):
            number = self._awaiting_ack.pop(pubacks[start + 2 : start + 4], None)
            if number is not None:
                self.acknowledged.add(number)

    def note_answers(self, stream: bytes, now_s: float) -> None:
        """Notes the ids in whole PUBLISH packets."""
        for number in map(int, ID.findall(stream)):
            if number in self.answered_s:
                self.duplicates += 1
            elif number in self.sent_s:
                self.answered_s[number] = now_s

    @property
    def lost(self) -> int:
        """How many acknowledged samples have no answer."""
        return len(self.acknowledged - self.answered_s.keys())

    def latencies_ms(self, from_s: float) -> Iterator[float]:
        """Yields how long each answered sample took that was sent from a time on."""
        for number, answered_s in self.answered_s.items():
            sent_s = self.sent_s[number]
            if sent_s >= from_s:
                yield (answered_s - sent_s) * 1000
