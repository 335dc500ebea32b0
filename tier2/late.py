"""Messages of the nodes' backlogs: for when nothing live waits. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

from tier2.admission import Admitted, LateMessage

REMEMBERED = 1000

Key = tuple[str, int, int]


class LateQueue:
    """Keeps what nobody waits for, and tells when a message is done with.

    A node sends a message again until it is confirmed: one that is in hand is not taken twice, and
    one that was confirmed is confirmed again.

    Args:
        max_bytes: of messages in hand; with nothing in hand one may be larger.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[Admitted] = deque()
        self._in_hand: dict[Key, LateMessage] = {}
        self._bytes = 0
        self._settled: list[LateMessage] = []
        self._confirmed: OrderedDict[Key, None] = OrderedDict()

    def __len__(self) -> int:
        """Returns how many samples wait for the model."""
        return len(self._waiting)

    def add(self, questions: Sequence[Admitted]) -> bool:
        """Takes the questions of one message; returns False if there is no room for them."""
        message = questions[0].late if questions else None
        if message is None or _key(message) in self._in_hand:
            return True
        if _key(message) in self._confirmed:
            self._settled.append(message)
            return True
        if self._bytes and self._bytes + message.payload_bytes > self._max_bytes:
            return False
        self._in_hand[_key(message)] = message
        self._bytes += message.payload_bytes
        self._waiting.extend(questions)
        return True

    def take(self, count: int) -> list[Admitted]:
        """Hands out up to ``count`` questions, oldest first."""
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def done(self, questions: Sequence[Admitted]) -> None:
        """Notes that questions have their records, or can have none."""
        for question in questions:
            message = question.late
            if message is None:
                continue
            message.open -= 1
            if message.open == 0:
                self._bytes -= message.payload_bytes
                self._settled.append(message)

    @property
    def settled(self) -> Sequence[LateMessage]:
        """Messages that are done with and not confirmed yet."""
        return self._settled

    def confirm(self) -> list[LateMessage]:
        """Returns the messages that are done with, once: their records are on the disk now."""
        settled, self._settled = self._settled, []
        for message in settled:
            self._in_hand.pop(_key(message), None)
            self._confirmed[_key(message)] = None
        while len(self._confirmed) > REMEMBERED:
            self._confirmed.popitem(last=False)
        return settled


def _key(message: LateMessage) -> Key:
    return (message.address, message.correlations[0], len(message.correlations))
