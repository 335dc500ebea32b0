"""The load: sensors that send samples, and an audience that counts the predictions."""

from __future__ import annotations

import contextlib
import itertools
import select
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from bench.connection import Connection
from bench.errors import StalledError
from bench.ledger import Ledger
from bench.packets import PUBLISH, Frame, frames, puback
from bench.samples import Feed, packet_id

STALLED_S = 10.0
BLOCK = 10_000_000
"""Each load numbers its messages from a block of its own, so that no id comes twice in a run."""

_BLOCKS = itertools.count()


@dataclass(frozen=True)
class Lane:
    """Where the samples of one contestant go, and its predictions come from.

    Attributes:
        topics: first levels of its topics.
        marker: bytes that each right answer holds once, and no other message does.
        sensors: how many sensors take turns.
    """

    topics: str
    marker: bytes
    sensors: int = 8

    @property
    def samples(self) -> tuple[str, ...]:
        """One topic for each sensor."""
        return tuple(f"{self.topics}/samples/s{index}" for index in range(self.sensors))

    @property
    def predictions(self) -> str:
        """The filter of all predictions."""
        return f"{self.topics}/predictions/+"


class Load:
    """Sends numbered messages and counts what comes back.

    Args:
        port: the broker's.
        lane: the contestant's topics.
        feed: the packets.
        ledger: keeps numbers and times; left out, messages are only counted, which is cheaper.
        audience_qos: QoS of the audience's subscription.

    Attributes:
        sent: messages sent.
        answered: answers received.
        right: how many of them held the lane's marker.
        acknowledged: PUBACKs that the sensors received.
    """

    def __init__(
        self,
        port: int,
        lane: Lane,
        feed: Feed,
        *,
        ledger: Ledger | None = None,
        audience_qos: int = 0,
    ) -> None:
        block = next(_BLOCKS)
        self._sensors = Connection(port, f"bench-{block}-sensors")
        self._audience = Connection(port, f"bench-{block}-audience")
        self._audience_qos = audience_qos
        self._lane = lane
        self._feed = feed
        self._ledger = ledger
        self._next = block * BLOCK
        self._acknowledgements = bytearray()
        self._answers = bytearray()
        self._connections = contextlib.ExitStack()
        self._progress_s = time.perf_counter()
        self.sent = self.answered = self.right = self.acknowledged = 0

    def __enter__(self) -> Self:
        """Connects both and subscribes the audience."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._sensors)
            stack.enter_context(self._audience)
            self._audience.subscribe(self._lane.predictions, self._audience_qos)
            self._connections = stack.pop_all()
        self._progress_s = time.perf_counter()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnects both."""
        self._connections.close()

    @property
    def unanswered(self) -> int:
        """Messages without an answer."""
        answered = self.answered if self._ledger is None else len(self._ledger.answered_s)
        return self.sent - answered

    @property
    def backed_up(self) -> bool:
        """Whether the sensors' socket takes no more."""
        return self._sensors.unsent_bytes > 0

    def send(self, count: int) -> None:
        """Sends the next ``count`` messages."""
        first = self._next
        self._next += count
        self.sent += count
        data = self._feed.packets(first, count)
        if self._ledger is not None:
            now_s = time.perf_counter()
            for number in range(first, self._next):
                self._ledger.note_sent(number, packet_id(number), now_s)
        self._sensors.send(data)

    def turn(self, wait_s: float) -> None:
        """Waits until something can be read or written, at most so long, and does it.

        Raises:
            StalledError: messages wait, and no answer came for a long time.
            BenchError: the broker hung up.
        """
        both = (self._sensors, self._audience)
        writers = [connection for connection in both if connection.unsent_bytes]
        readable, writable, _ = select.select(both, writers, (), max(0.0, wait_s))
        for connection in writable:
            connection.flush()
        if self._sensors in readable:
            self._take_acknowledgements(self._sensors.receive())
        if self._audience in readable:
            self._take_answers(self._audience.receive(), time.perf_counter())
        elif self.unanswered <= 0:
            self._progress_s = time.perf_counter()
        elif time.perf_counter() - self._progress_s > STALLED_S:
            raise StalledError(
                f"{self.unanswered} of {self.sent} messages wait, and no answer for {STALLED_S:g} s"
            )

    def drain(self) -> None:
        """Waits until every message has its answer.

        Raises:
            StalledError: some get none.
        """
        while self.unanswered > 0 or self.backed_up:
            self.turn(0.05)

    def _take_acknowledgements(self, data: memoryview) -> None:
        self._acknowledgements += data
        whole = len(self._acknowledgements) // 4 * 4
        self.acknowledged += whole // 4
        if self._ledger is not None:
            self._ledger.note_acknowledgements(bytes(self._acknowledgements[:whole]))
        del self._acknowledgements[:whole]

    def _take_answers(self, data: memoryview, now_s: float) -> None:
        self._answers += data
        found, size = frames(self._answers)
        stream = bytes(self._answers[:size])
        del self._answers[:size]
        answers = [frame for frame in found if frame.first & 0xF0 == PUBLISH]
        if not answers:
            return
        self._progress_s = now_s
        self.answered += len(answers)
        self.right += stream.count(self._lane.marker)
        if self._ledger is not None:
            self._ledger.note_answers(stream, now_s)
        if self._audience_qos:
            self._audience.send(b"".join(acknowledgements(stream, answers)))


def acknowledgements(stream: bytes, answers: Iterable[Frame]) -> Iterator[bytes]:
    """Yields the PUBACK of each QoS 1 PUBLISH in a stream."""
    for frame in answers:
        if frame.first & 0x06:
            topic_bytes = int.from_bytes(stream[frame.body : frame.body + 2], "big")
            at = frame.body + 2 + topic_bytes
            yield puback(stream[at : at + 2])
