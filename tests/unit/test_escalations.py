"""Every question leaves exactly once, whatever the order of answers and deadlines."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shared.cascade.escalations import MAX_LATE, MAX_LATE_S, MAX_STALE, Escalations

DEADLINE_S = 1.0


def left_of(question: object) -> str:
    return f"left of {question}"


def test_an_answer_in_time_takes_its_question_once() -> None:
    escalations: Escalations[str, str] = Escalations(DEADLINE_S, left_of)
    escalations.ask(7, "seven", 0.0)
    assert escalations.answered(7) == "seven"
    assert escalations.answered(7) is None
    assert escalations.answered_late(7) is None
    assert escalations.overdue(10.0) == []


def test_a_question_expires_at_its_deadline_and_not_before() -> None:
    escalations: Escalations[str, str] = Escalations(DEADLINE_S, left_of)
    escalations.ask(1, "one", 5.0)
    escalations.ask(2, "two", 5.5)
    assert escalations.due_s() == 6.0
    assert escalations.overdue(5.999) == []
    assert escalations.overdue(6.0) == [(1, 5.0, "one")]
    assert escalations.due_s() == 6.5
    assert len(escalations) == 1


def test_a_late_answer_corrects_once() -> None:
    escalations: Escalations[str, str] = Escalations(DEADLINE_S, left_of)
    escalations.ask(1, "one", 0.0)
    escalations.overdue(2.0)
    assert escalations.answered(1) is None
    assert escalations.answered_late(1) == "left of one"
    assert escalations.answered_late(1) is None


def test_nothing_waits_for_an_answer_that_nobody_asked_for() -> None:
    escalations: Escalations[str, str] = Escalations(DEADLINE_S, left_of)
    assert escalations.answered(1) is None
    assert escalations.answered_late(1) is None
    assert escalations.due_s() is None


def test_a_question_with_less_time_expires_first() -> None:
    escalations: Escalations[str, str] = Escalations(DEADLINE_S, left_of)
    assert escalations.ask(1, "one", 0.0) == 1.0
    assert escalations.ask(2, "two", 0.1, due_s=0.4) == 0.4
    assert escalations.ask(3, "three", 0.1, due_s=60.0) == 1.1
    assert escalations.due_s() == 0.4
    assert [each.correlation for each in escalations.overdue(2.0)] == [2, 1, 3]


def test_a_withdrawn_question_leaves_without_a_trace() -> None:
    escalations: Escalations[str, str] = Escalations(DEADLINE_S, left_of)
    escalations.ask(1, "one", 0.0)
    assert escalations.withdrawn(1) == "one"
    assert escalations.withdrawn(1) is None
    assert escalations.overdue(2.0) == []
    assert escalations.answered_late(1) is None


def test_answered_questions_behind_one_that_waits_take_no_room() -> None:
    escalations: Escalations[int, str] = Escalations(DEADLINE_S, left_of)
    escalations.ask(0, 0, 0.0)
    for number in range(1, 10 * MAX_STALE):
        escalations.ask(number, number, 0.0)
        assert escalations.answered(number) == number
        assert escalations.due_s() == 1.0
    assert len(escalations._deadlines) <= MAX_STALE + 2


def test_the_memory_of_the_late_is_bounded_and_forgets_the_oldest() -> None:
    escalations: Escalations[int, str] = Escalations(DEADLINE_S, left_of)
    for number in range(MAX_LATE + 5):
        escalations.ask(number, number, 0.0)
    assert len(escalations.overdue(2.0)) == MAX_LATE + 5
    assert escalations.answered_late(4) is None
    assert escalations.answered_late(5) == "left of 5"


def test_past_its_deadline_only_what_a_late_answer_needs_is_kept() -> None:
    escalations: Escalations[str, str] = Escalations(DEADLINE_S, left_of)
    escalations.ask(1, "one", 0.0)
    assert escalations.asked(1) == "one"
    assert escalations.overdue(1.0) == [(1, 0.0, "one")]
    assert escalations.asked(1) == "left of one"
    assert list(escalations._late.values()) == [(1.0 + MAX_LATE_S, "left of one")]


def test_an_answer_that_comes_much_too_late_belongs_to_nothing() -> None:
    escalations: Escalations[str, str] = Escalations(DEADLINE_S, left_of)
    escalations.ask(1, "one", 0.0)
    escalations.ask(2, "two", 0.5)
    escalations.overdue(1.0)
    escalations.overdue(1.5)
    escalations.overdue(1.0 + MAX_LATE_S)
    assert escalations.asked(1) is None
    assert escalations.answered_late(1) is None
    assert escalations.answered_late(2) == "left of two"


class EscalationCourse(RuleBasedStateMachine):
    """Asks, answers and lets time pass in any order, beside a model of what must happen."""

    def __init__(self) -> None:
        super().__init__()
        self.escalations: Escalations[int, str] = Escalations(DEADLINE_S, left_of)
        self.now_s = 0.0
        self.waiting: dict[int, float] = {}
        self.late: dict[int, float] = {}
        self.left: list[int] = []
        self.corrected: list[int] = []
        self.asked = 0

    @rule(left_s=st.none() | st.floats(0, 2.0))
    def ask(self, left_s: float | None) -> None:
        due_s = None if left_s is None else self.now_s + left_s
        usual_s = self.now_s + DEADLINE_S
        self.escalations.ask(self.asked, self.asked, self.now_s, due_s)
        self.waiting[self.asked] = usual_s if due_s is None else min(due_s, usual_s)
        self.asked += 1

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, self.asked))
        found = self.escalations.answered(number)
        assert found == (number if number in self.waiting else None)
        if found is not None:
            del self.waiting[number]
            self.left.append(number)
            return
        late = self.escalations.answered_late(number)
        assert late == (left_of(number) if number in self.late else None)
        if late is not None:
            del self.late[number]
            self.corrected.append(number)

    @rule(passed_s=st.floats(0, 1.5) | st.floats(0, 2 * MAX_LATE_S))
    def let_time_pass(self, passed_s: float) -> None:
        self.now_s += passed_s
        over = [each.question for each in self.escalations.overdue(self.now_s)]
        assert over == sorted(
            (number for number, due_s in self.waiting.items() if due_s <= self.now_s),
            key=lambda number: (self.waiting[number], number),
        )
        for number in over:
            del self.waiting[number]
            self.late[number] = self.now_s + MAX_LATE_S
            self.left.append(number)

        self.late = {number: gone_s for number, gone_s in self.late.items() if gone_s > self.now_s}

    @invariant()
    def each_question_waits_or_has_left_once(self) -> None:
        assert sorted([*self.left, *self.waiting]) == list(range(self.asked))
        assert len(self.escalations) == len(self.waiting)
        assert self.escalations.due_s() == min(self.waiting.values(), default=None)
        assert len(set(self.corrected)) == len(self.corrected)


TestEscalationCourse = EscalationCourse.TestCase
TestEscalationCourse.settings = settings(max_examples=60, deadline=None, database=None)
