"""The questions that a tier has put to the next one. Pure: time comes in, decisions go out."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

MAX_LATE = 10_000
MAX_LATE_S = 60.0
MAX_STALE = 1000

Question = TypeVar("Question")
Late = TypeVar("Late")


class Overdue(NamedTuple, Generic[Question]):
    """A question whose deadline has passed.

    Attributes:
        correlation: what its answer names it by.
        asked_s: when it was asked, monotonic.
        question: the question.
    """

    correlation: int
    asked_s: float
    question: Question


class Escalations(Generic[Question, Late]):
    """Keeps every question until its answer or its deadline, and a while longer for a late one.

    A question leaves exactly once: by ``answered``, by ``overdue`` or by ``withdrawn``. One that
    was overdue may leave a second time by ``answered_late``, for the one correction, up to
    ``MAX_LATE_S`` after its deadline.

    Args:
        deadline_s: how long an answer may take.
        late: returns what a late answer needs of a question: the question itself holds a sample.
        max_late: so many overdue questions wait for a late answer; past it the oldest go.
    """

    def __init__(
        self, deadline_s: float, late: Callable[[Question], Late], max_late: int = MAX_LATE
    ) -> None:
        self._deadline_s = deadline_s
        self._late_of = late
        self._max_late = max_late
        self._waiting: dict[int, tuple[float, float, Question]] = {}
        # Answered questions stay in it until they come to the front: see ``_forget_stale``.
        self._deadlines: list[tuple[float, int]] = []
        self._late: OrderedDict[int, tuple[float, Late]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(
        self, correlation: int, question: Question, now_s: float, due_s: float | None = None
    ) -> float:
        """Notes a question.

        Args:
            correlation: what its answer will name it by.
            question: the question.
            now_s: monotonic.
            due_s: when its deadline is, if earlier than the usual one.

        Returns:
            When its deadline is.
        """
        usual_s = now_s + self._deadline_s
        due_s = usual_s if due_s is None else min(due_s, usual_s)
        self._waiting[correlation] = (due_s, now_s, question)
        heapq.heappush(self._deadlines, (due_s, correlation))
        return due_s

    def asked(self, correlation: int) -> Question | Late | None:
        """Returns what an answer belongs to, and keeps it: the question, or what is left of it."""
        found = self._waiting.get(correlation)
        if found is not None:
            return found[2]
        left = self._late.get(correlation)
        return None if left is None else left[1]

    def answered(self, correlation: int) -> Question | None:
        """Returns the question that an answer in time belongs to, once; else None."""
        found = self._waiting.pop(correlation, None)
        return None if found is None else found[2]

    def answered_late(self, correlation: int) -> Late | None:
        """Returns what is left of the question of an answer after the deadline, once; else None."""
        left = self._late.pop(correlation, None)
        return None if left is None else left[1]

    def withdrawn(self, correlation: int) -> Question | None:
        """Returns a question that still waits, once: nobody will be asked. Else None."""
        return self.answered(correlation)

    def overdue(self, now_s: float) -> list[Overdue[Question]]:
        """Returns the questions whose deadline has passed, once each, by their deadlines."""
        over: list[Overdue[Question]] = []
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now_s:
            _, correlation = heapq.heappop(deadlines)
            found = self._waiting.pop(correlation, None)
            if found is not None:
                _, asked_s, question = found
                self._late[correlation] = (now_s + MAX_LATE_S, self._late_of(question))
                over.append(Overdue(correlation, asked_s, question))
        self._forget_late(now_s)
        return over

    def due_s(self) -> float | None:
        """Returns when the next deadline passes, or None if nothing waits."""
        self._forget_stale()
        return self._deadlines[0][0] if self._deadlines else None

    def _forget_late(self, now_s: float) -> None:
        late = self._late
        while late and (len(late) > self._max_late or next(iter(late.values()))[0] <= now_s):
            late.popitem(last=False)

    def _forget_stale(self) -> None:
        deadlines, waiting = self._deadlines, self._waiting
        while deadlines and deadlines[0][1] not in waiting:
            heapq.heappop(deadlines)
        if len(deadlines) > 2 * len(waiting) + MAX_STALE:
            self._deadlines = [(due_s, each) for each, (due_s, _, _) in waiting.items()]
            heapq.heapify(self._deadlines)
