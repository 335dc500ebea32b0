"""Reads back what was published: a broker may acknowledge a message and drop it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import NamedTuple

from shared.mqtt.link import Link
from shared.releases.window import ChunkWindow


class Expected(NamedTuple):
    """A retained message that should be there.

    Attributes:
        topic: where.
        digest: SHA-256 of its payload, in hex.
    """

    topic: str
    digest: str


class ReadBack:
    """Subscribes to each topic once, a window at a time, and compares what comes.

    Args:
        expected: what should be there.
        link: the broker.
        stops_at_loss: whether to look no further once one was not there.

    Attributes:
        found: positions in ``expected`` of what was there.
        lost: of what was not there, or was something else.
    """

    def __init__(
        self, expected: Sequence[Expected], link: Link, *, stops_at_loss: bool = False
    ) -> None:
        self.found: set[int] = set()
        self.lost: set[int] = set()
        self._expected = expected
        self._link = link
        self._stops_at_loss = stops_at_loss
        self._by_topic = {each.topic: number for number, each in enumerate(expected)}
        # No jitter is needed: nobody else reads at this moment.
        self._window = ChunkWindow(range(len(expected)), random.Random(0))  # noqa: S311

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be looked at."""
        return self._window.empty or (self._stops_at_loss and bool(self.lost))

    def poll(self, now_s: float) -> None:
        """Asks on; what did not come in time is lost."""
        for number in self._window.time_out(now_s):
            self._settle(number, now_s, found=False)
        self._ask(now_s)

    def on_message(self, topic: str, payload: bytes, now_s: float) -> None:
        """Takes what came on a topic."""
        number = self._by_topic.get(topic)
        if number is not None and number in self._window.asked:
            digest = hashlib.sha256(payload).hexdigest()
            self._settle(number, now_s, found=digest == self._expected[number].digest)
            self._ask(now_s)

    def end(self) -> None:
        """Ends the subscriptions that stand."""
        for number in self._window.asked:
            self._link.unsubscribe(self._expected[number].topic)

    def _ask(self, now_s: float) -> None:
        if self.complete:
            return
        for number in self._window.ask(now_s):
            self._link.subscribe(self._expected[number].topic, 0)

    def _settle(self, number: int, now_s: float, *, found: bool) -> None:
        self._window.came(number, now_s)
        self._link.unsubscribe(self._expected[number].topic)
        (self.found if found else self.lost).add(number)
