"""The questions that tier-1 has put to tier-2. Pure: time comes in, decisions go out."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

MAX_LATE = 10_000

Question = TypeVar("Question")


class Escalations(Generic[Question]):
    """Keeps every question until its answer or its deadline, and a while longer for a late one.

    A question leaves exactly once: by ``answered`` or by ``expired``. One that expired may leave a
    second time by ``answered_late``, for the one correction.

    Args:
        deadline_s: how long an answer may take.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._waiting: OrderedDict[int, tuple[float, Question]] = OrderedDict()
        self._late: OrderedDict[int, Question] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, correlation: int, question: Question, now_s: float) -> None:
        """Notes a question."""
        self._waiting[correlation] = (now_s + self._deadline_s, question)

    def asked(self, correlation: int) -> Question | None:
        """Returns the question that an answer belongs to, in time or late, and keeps it."""
        _, question = self._waiting.get(correlation, (0.0, None))
        return question or self._late.get(correlation)

    def answered(self, correlation: int) -> Question | None:
        """Returns the question that an answer in time belongs to, once; else None."""
        _, question = self._waiting.pop(correlation, (0.0, None))
        return question

    def answered_late(self, correlation: int) -> Question | None:
        """Returns the question that an answer after the deadline belongs to, once; else None."""
        return self._late.pop(correlation, None)

    def expired(self, now_s: float) -> list[Question]:
        """Returns the questions whose deadline has passed, oldest first, once each."""
        over = []
        while self._waiting:
            correlation, (due_s, question) = next(iter(self._waiting.items()))
            if due_s > now_s:
                break
            del self._waiting[correlation]
            self._late[correlation] = question
            over.append(question)
        while len(self._late) > MAX_LATE:
            self._late.popitem(last=False)
        return over

    def due_s(self) -> float | None:
        """Returns when the next deadline passes, or None if nothing waits."""
        return next(iter(self._waiting.values()))[0] if self._waiting else None
