"""Each question that is asked gets exactly one outcome; what may be asked is bounded."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shared.cascade.breaker import State
from shared.cascade.config import BreakerConfig, BudgetConfig, EscalationConfig
from shared.cascade.escalator import TYPICAL_OVERHEAD_BYTES, Escalator
from shared.messages import Escalation, Reason, Tensor
from tests.builders import escalated

BYTES = 100
COST_BYTES = BYTES + TYPICAL_OVERHEAD_BYTES


def make(**changes: Any) -> Escalator[int, int]:
    config = EscalationConfig(
        deadline_ms=1000, breaker=BreakerConfig(failures=2, retry_s=4.0), **changes
    )
    return Escalator(config, random.Random(1), lambda question: question)


def grant(
    escalator: Escalator[int, int],
    audits: list[bool],
    now_s: float = 0.0,
    *,
    reachable: bool = True,
) -> list[Reason | None]:
    return escalator.grant(audits, BYTES, reachable=reachable, now_s=now_s).denials


def message(count: int, *, backlog: bool = False) -> Escalation:
    nothing = Tensor("float32", (count, 0), b"")
    samples = tuple(escalated(number) for number in range(count))
    return Escalation(
        1, "tier1-a", "meter", "1", 0.0, 0, 0, samples, nothing, nothing, backlog=backlog
    )


def ask(escalator: Escalator[int, int], *numbers: int, now_s: float = 0.0) -> None:
    assert grant(escalator, [False] * len(numbers), now_s) == [None] * len(numbers)
    for number in numbers:
        escalator.ask(number, number, now_s)


def opened() -> Escalator[int, int]:
    """An escalator whose breaker opened at 2.5 s and stays open for 2 to 4 s."""
    escalator = make()
    ask(escalator, 1, 2, now_s=0.0)
    ask(escalator, 3, now_s=1.0)
    assert escalator.expired(2.5) == [1, 2, 3]
    assert escalator.state is State.OPEN
    return escalator


def test_without_limits_everything_is_granted() -> None:
    assert grant(make(), [True, False, False]) == [None, None, None]


def test_what_cannot_be_reached_is_not_asked_not_even_for_the_audit() -> None:
    assert grant(make(), [True, False], reachable=False) == ["unreachable", "unreachable"]


def test_only_so_many_questions_wait_but_audits_always_may() -> None:
    escalator = make(max_inflight=3)
    ask(escalator, 1, 2)
    assert grant(escalator, [False, False, True, False]) == [
        None, "max_inflight", None, "max_inflight",
    ]  # fmt: skip
    escalator.answered(1, 0.1)
    assert grant(escalator, [False, False, False])[:2] == [None, None]


def test_late_questions_do_not_count_as_waiting() -> None:
    escalator = make(max_inflight=2)
    ask(escalator, 1, 2)
    escalator.expired(1.0)
    assert escalator.waiting == 0
    assert grant(escalator, [False, False], 1.0) == [None, None]


def test_what_waits_for_a_late_answer_is_bounded_too() -> None:
    escalator = make(max_inflight=2)
    ask(escalator, 1, 2)
    escalator.expired(1.0)
    ask(escalator, 3, now_s=1.0)
    escalator.expired(2.0)
    assert [escalator.asked(number) for number in (1, 2, 3)] == [None, 2, 3]


def test_past_the_budget_hard_samples_wait_and_audits_go_into_debt() -> None:
    escalator = make(budget=BudgetConfig(samples_per_minute=60))
    assert grant(escalator, [False] * 60).count(None) == 60
    assert grant(escalator, [False, True, True]) == ["budget", None, None]
    assert grant(escalator, [False], 2.9) == ["budget"]
    assert grant(escalator, [False], 3.1) == [None]


def test_a_budget_in_bytes_counts_what_a_sample_takes_on_the_wire() -> None:
    escalator = make(budget=BudgetConfig(bytes_per_minute=3 * COST_BYTES))
    assert grant(escalator, [False] * 4) == [None, None, None, "budget"]


def test_messages_without_an_answer_open_the_breaker_and_nothing_more_is_asked() -> None:
    escalator = opened()
    assert grant(escalator, [True, False], 2.5) == ["breaker_open", "breaker_open"]


def test_one_lost_message_of_many_questions_is_one_miss() -> None:
    escalator = make()
    ask(escalator, *range(32))
    assert len(escalator.expired(1.0)) == 32
    assert escalator.state is State.CLOSED


def test_after_the_delay_exactly_one_sample_goes_and_its_answer_closes() -> None:
    escalator = opened()
    assert grant(escalator, [False, True, False], 6.5) == [None, "breaker_open", "breaker_open"]
    escalator.ask(10, 10, 6.5)
    assert grant(escalator, [True, False], 6.6) == ["breaker_open", "breaker_open"]
    assert escalator.answered(10, 6.7)
    assert grant(escalator, [False, False], 6.8) == [None, None]


def test_a_late_answer_closes_nothing() -> None:
    escalator = opened()
    assert grant(escalator, [False], 6.5) == [None]
    escalator.ask(10, 10, 6.5)
    assert escalator.expired(7.5) == [10]
    assert not escalator.answered(10, 7.6)
    assert not escalator.answered(3, 7.6)
    assert escalator.state is State.OPEN


def test_withdrawn_questions_come_back_and_cost_nothing() -> None:
    escalator = make(budget=BudgetConfig(samples_per_minute=4))
    ask(escalator, 1, 2, 3)
    assert escalator.answered(2, 0.1)
    assert escalator.withdraw([1, 2, 3, 99]) == [1, 3]
    assert escalator.expired(5.0) == []
    assert grant(escalator, [False] * 4, 0.1) == [None, None, None, "budget"]


def test_a_withdrawn_probe_lets_the_next_sample_be_the_probe() -> None:
    escalator = opened()
    assert grant(escalator, [False], 6.5) == [None]
    escalator.ask(10, 10, 6.5)
    assert escalator.withdraw([10]) == [10]
    assert grant(escalator, [False], 6.6) == [None]


def test_a_question_may_have_less_time_than_usual() -> None:
    escalator = make()
    assert grant(escalator, [False, False]) == [None, None]
    assert escalator.ask(1, 1, 0.0, due_s=0.3) == 0.3
    assert escalator.ask(2, 2, 0.0, due_s=60.0) == 1.0
    assert escalator.due_s() == 0.3
    assert escalator.expired(0.5) == [1]


def test_it_is_quiet_when_nothing_waits_and_the_next_tier_answers() -> None:
    escalator = make()
    assert escalator.quiet(0.0)
    ask(escalator, 1)
    assert not escalator.quiet(0.1)
    escalator.answered(1, 0.2)
    assert escalator.quiet(0.2)


def test_an_open_breaker_is_not_quiet_until_a_probe_is_due() -> None:
    escalator = opened()
    assert not escalator.quiet(2.6)
    assert escalator.quiet(6.5)


def test_a_spent_budget_is_not_quiet() -> None:
    escalator = make(budget=BudgetConfig(bytes_per_minute=1000))
    escalator.charge(message(3, backlog=True), 600)
    assert not escalator.quiet(0.0)
    assert escalator.quiet(7.0)


def test_a_message_that_was_sent_is_charged_by_the_size_that_it_has() -> None:
    escalator = make(budget=BudgetConfig(bytes_per_minute=6000))
    assert grant(escalator, [False] * 4).count(None) == 4
    escalator.charge(message(4), 9000)
    assert grant(escalator, [False], 30.0) == ["budget"]
    assert grant(escalator, [False], 80.0) == [None]


def test_what_a_sample_takes_on_the_wire_is_learned_from_what_was_sent() -> None:
    escalator = make(budget=BudgetConfig(bytes_per_minute=6000))
    grant(escalator, [False] * 2)
    escalator.charge(message(2), 2000)
    assert grant(escalator, [False] * 9, 60.0).count(None) == 6
    assert grant(make(budget=BudgetConfig(bytes_per_minute=6000)), [False] * 50).count(None) == 30


def test_of_a_message_that_went_by_half_the_other_half_costs_nothing() -> None:
    escalator = make(budget=BudgetConfig(bytes_per_minute=4 * COST_BYTES))
    ask(escalator, 1, 2, 3, 4)
    escalator.charge(message(2), 2 * COST_BYTES)
    assert escalator.withdraw([3, 4]) == [3, 4]
    assert grant(escalator, [False] * 3) == [None, None, "budget"]


@pytest.mark.parametrize(
    ("sample_bytes", "expected"),
    [(10, 8), (1000, 4), (10_000, 1)],
    ids=["by-count", "by-bytes", "alone"],
)
def test_a_message_is_bounded_in_samples_and_bytes(sample_bytes: int, expected: int) -> None:
    escalator = make(max_batch_samples=8, max_message_bytes=13_000)
    assert escalator.samples_a_message(sample_bytes) == expected


class EscalatorCourse(RuleBasedStateMachine):
    """Any course of grants, answers, losses and time, beside a count of what must come out."""

    def __init__(self) -> None:
        super().__init__()
        self.escalator = make(max_inflight=5, budget=BudgetConfig(samples_per_minute=30))
        self.now_s = 0.0
        self.waiting: dict[int, float] = {}
        self.late: set[int] = set()
        self.outcomes: list[int] = []
        self.corrected: list[int] = []
        self.asked = 0

    @rule(audits=st.lists(st.booleans(), max_size=8), reachable=st.booleans())
    def ask(self, audits: list[bool], reachable: bool) -> None:
        state = self.escalator.state
        before = len(self.waiting)
        grants = grant(self.escalator, audits, self.now_s, reachable=reachable)
        assert len(grants) == len(audits)
        granted = [row for row, denial in enumerate(grants) if denial is None]
        if not reachable:
            assert not granted
        elif state is State.CLOSED:
            assert all(grants[row] is None for row, audit in enumerate(audits) if audit)
            hard = sum(not audits[row] for row in granted)
            assert hard <= max(0, 5 - before)
        else:
            assert len(granted) <= 1
        for _ in granted:
            self.escalator.ask(self.asked, self.asked, self.now_s)
            self.waiting[self.asked] = self.now_s + 1.0
            self.asked += 1

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, self.asked))
        known = self.escalator.asked(number)
        assert known == (number if number in self.waiting or number in self.late else None)
        if known is None:
            return
        in_time = self.escalator.answered(number, self.now_s)
        assert in_time == (number in self.waiting)
        if in_time:
            del self.waiting[number]
            self.outcomes.append(number)
        else:
            self.late.discard(number)
            self.corrected.append(number)

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, self.asked))
        back = self.escalator.withdraw([number])
        assert back == ([number] if number in self.waiting else [])
        if back:
            del self.waiting[number]
            self.outcomes.append(number)

    @rule(passed_s=st.floats(0, 5))
    def let_time_pass(self, passed_s: float) -> None:
        self.now_s += passed_s
        over = self.escalator.expired(self.now_s)
        assert over == [number for number, due_s in self.waiting.items() if due_s <= self.now_s]
        for number in over:
            del self.waiting[number]
            self.outcomes.append(number)
        self.late = {number for number in self.late | set(over) if self.escalator.asked(number)
                     is not None}  # fmt: skip
        assert len(self.late) <= 5

    @invariant()
    def each_question_waits_or_has_one_outcome(self) -> None:
        assert sorted([*self.outcomes, *self.waiting]) == list(range(self.asked))
        assert self.escalator.waiting == len(self.waiting)
        assert self.escalator.due_s() == min(self.waiting.values(), default=None)
        assert len(set(self.corrected)) == len(self.corrected)


TestEscalatorCourse = EscalatorCourse.TestCase
TestEscalatorCourse.settings = settings(max_examples=80, deadline=None, database=None)
