"""Who may be asked now, and what becomes of the questions. Pure: time and randomness come in."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from shared.cascade.breaker import Breaker, State
from shared.cascade.budget import Budget
from shared.cascade.config import EscalationConfig
from shared.cascade.escalations import Escalations
from shared.messages import Escalation, Reason

TYPICAL_OVERHEAD_BYTES = 96  # of a sample in a message, beside its numbers and its scores, at first

Question = TypeVar("Question")


class Grants(NamedTuple):
    """Which of N samples may be asked now.

    Attributes:
        denials: None for a sample that may be asked, else why not.
        by_audit: places of those that may be asked only because the audit drew them: there was no
            room for them.
    """

    denials: list[Reason | None]
    by_audit: frozenset[int] = frozenset()


Late = TypeVar("Late")


class Escalator(Generic[Question, Late]):
    """Decides which questions are put to the next tier, and keeps them until they are settled.

    Each question that is asked leaves exactly once: by an answer in time, by ``expired`` or by
    ``withdraw``. A late answer may take it out once more.

    Args:
        config: deadline, breaker, budget, how many may wait.
        rng: for the jitter of the breaker.
        late: returns what a late answer needs of a question.
    """

    def __init__(
        self, config: EscalationConfig, rng: random.Random, late: Callable[[Question], Late]
    ) -> None:
        self._config = config
        self._breaker = Breaker(config.breaker, rng.random)
        self._budget = Budget(config.budget)
        # What waits for a late answer takes memory too: it has the same bound.
        self._escalations: Escalations[Question, Late] = Escalations(
            config.deadline_ms / 1000, late, config.max_inflight
        )
        self._numbers_bytes = 0
        self._overhead_bytes = TYPICAL_OVERHEAD_BYTES
        self._sample_bytes = 0

    @property
    def state(self) -> State:
        """Of the breaker."""
        return self._breaker.state

    @property
    def waiting(self) -> int:
        """How many questions wait for an answer in time."""
        return len(self._escalations)

    def samples_a_message(self, sample_bytes: int) -> int:
        """Returns how many samples a message may hold, at least one.

        Args:
            sample_bytes: of one sample's numbers and scores.
        """
        return self._config.samples_a_message(sample_bytes)

    def grant(
        self, audits: Sequence[bool], sample_bytes: int, *, reachable: bool, now_s: float
    ) -> Grants:
        """Says which of N samples may be asked now. What is granted is asked before the next call.

        An audit is granted whenever the breaker is closed: if load or budget shed it, the audited
        samples would no longer be a uniform sample of the traffic. It overdraws the budget, and
        what is hard pays for it.

        Args:
            audits: whether the audit drew the sample.
            sample_bytes: of one sample's numbers and scores.
            reachable: whether a message would leave this node.
            now_s: monotonic.
        """
        if not reachable:
            return Grants(["unreachable"] * len(audits))
        state = self._breaker.poll(now_s)
        if state is State.OPEN or self._breaker.probing:
            return Grants(["breaker_open"] * len(audits))
        self._numbers_bytes = sample_bytes
        self._sample_bytes = sample_bytes + self._overhead_bytes
        grants = (
            self._grant_by_room(audits, now_s)
            if state is State.CLOSED
            else Grants([None if row == 0 else "breaker_open" for row in range(len(audits))])
        )
        granted = grants.denials.count(None)
        self._budget.spend(granted, granted * self._sample_bytes)
        return grants

    def ask(
        self, correlation: int, question: Question, now_s: float, due_s: float | None = None
    ) -> float:
        """Notes a question that was granted.

        Args:
            correlation: what its answer will name it by.
            question: the question.
            now_s: monotonic; questions of one call to ``grant`` share it.
            due_s: when its deadline is, if earlier than the usual one.

        Returns:
            When its deadline is, monotonic.
        """
        self._breaker.asked(correlation)
        return self._escalations.ask(correlation, question, now_s, due_s)

    def asked(self, correlation: int) -> Question | Late | None:
        """Returns what an answer belongs to, and keeps it: the question, or what is left of it."""
        return self._escalations.asked(correlation)

    def answered(self, correlation: int, now_s: float) -> bool:
        """Takes out a question that ``asked`` still knows; returns whether it had not expired."""
        if self._escalations.answered(correlation) is None:
            self._escalations.answered_late(correlation)
            return False
        self._breaker.answered(correlation, now_s)
        return True

    def expired(self, now_s: float) -> list[Question]:
        """Returns the questions whose deadline has passed, once each, by their deadlines."""
        overdue = self._escalations.overdue(now_s)
        for each in overdue:
            self._breaker.missed(each.correlation, each.asked_s, now_s)
        return [each.question for each in overdue]

    def withdraw(self, correlations: Iterable[int]) -> list[Question]:
        """Takes back questions that were never sent; returns those that still waited."""
        back = []
        for correlation in correlations:
            question = self._escalations.withdrawn(correlation)
            if question is not None:
                self._breaker.withdrawn(correlation)
                back.append(question)
        self._budget.spend(-len(back), -len(back) * self._sample_bytes)
        return back

    def due_s(self) -> float | None:
        """Returns when the next deadline passes, monotonic, or None if nothing waits."""
        return self._escalations.due_s()

    def quiet(self, now_s: float) -> bool:
        """Whether it is the time for what nobody waits for.

        It is when no question waits, the breaker is closed or would let a probe through, and half
        of the budget is there.
        """
        if self._escalations or self._breaker.poll(now_s) is State.OPEN:
            return False
        return self._budget.has_half(now_s)

    def charge(self, message: Escalation, message_bytes: int) -> None:
        """Takes a message that was sent from the budget, by the size that it has.

        For questions ``grant`` took what they were expected to; for a message of the backlog,
        nothing.

        Args:
            message: of questions that were granted last, or of the backlog.
            message_bytes: its size.
        """
        count = len(message.samples)
        if message.backlog:
            self._budget.spend(count, message_bytes)
            return
        self._budget.spend(0, message_bytes - count * self._sample_bytes)
        # The next ones are expected to be like this one.
        self._overhead_bytes = max(0, -(-message_bytes // count) - self._numbers_bytes)

    def _grant_by_room(self, audits: Sequence[bool], now_s: float) -> Grants:
        free = self._config.max_inflight - len(self._escalations)
        covered = self._budget.covers(self._sample_bytes, now_s)
        room = free if covered is None else min(free, covered)
        if room >= len(audits):
            return Grants([None] * len(audits))
        denial: Reason = "max_inflight" if free == room else "budget"
        denials: list[Reason | None] = []
        by_audit = set()
        for place, is_audit in enumerate(audits):
            if is_audit or room > 0:
                if room <= 0:
                    by_audit.add(place)
                denials.append(None)
                room -= 1
            else:
                denials.append(denial)
        return Grants(denials, frozenset(by_audit))
