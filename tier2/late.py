"""Messages of the nodes' backlogs: for when nothing live waits. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

from shared.scores import Flags
from tier2.admission import Admitted, LateMessage

REMEMBERED = 1000

Key = tuple[str, int, int]


class LateQueue:
    """Keeps what nobody waits for, and tells when a message is done with.

    A node sends a message again until it is confirmed: one that is in hand is not taken twice, and
    one that was confirmed is confirmed again. Of a message that lost something, because the model
    gave no usable scores or the disk did not take a record, nothing is confirmed; when it comes
    again, only what was lost is taken.

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
        self._lost: OrderedDict[Key, frozenset[int]] = OrderedDict()

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
        questions = self._without_record(message, questions)
        message.open = len(questions)
        self._in_hand[_key(message)] = message
        self._bytes += message.payload_bytes
        self._waiting.extend(questions)
        return True

    def take(self, count: int) -> list[Admitted]:
        """Hands out up to ``count`` questions, oldest first."""
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def done(self, questions: Sequence[Admitted], sound: Flags | None) -> None:
        """Notes that the model is done with N questions.

        Args:
            questions: live ones among them are none of its own.
            sound: bool [N], which of them have scores, and so a record; None for all.
        """
        for row, question in enumerate(questions):
            message = question.late
            if message is None:
                continue
            if sound is not None and not sound[row]:
                message.lost.add(question.sample.correlation)
            message.open -= 1
            if message.open == 0:
                self._bytes -= message.payload_bytes
                self._settled.append(message)

    @property
    def settled(self) -> Sequence[LateMessage]:
        """Messages that are done with and not confirmed yet."""
        return self._settled

    def confirm(self) -> list[LateMessage]:
        """Returns the messages that are done with and lost nothing, once.

        Called when the records that were not lost are on the disk.
        """
        settled, self._settled = self._settled, []
        confirmed = []
        for message in settled:
            key = _key(message)
            self._in_hand.pop(key, None)
            self._lost.pop(key, None)
            if message.lost:
                self._lost[key] = frozenset(message.lost)
            else:
                self._confirmed[key] = None
                confirmed.append(message)
        for known in (self._confirmed, self._lost):
            while len(known) > REMEMBERED:
                known.popitem(last=False)
        return confirmed

    def _without_record(
        self, message: LateMessage, questions: Sequence[Admitted]
    ) -> Sequence[Admitted]:
        """Returns the questions that have no record yet."""
        lost = self._lost.get(_key(message), frozenset())
        return [each for each in questions if each.sample.correlation in lost] or questions


def _key(message: LateMessage) -> Key:
    return (message.address, message.correlations[0], len(message.correlations))
