"""What tier-2 is not sure of goes up; each question gets one reply before its asker gives up."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from prometheus_client import CollectorRegistry

from shared.errors import PayloadError
from shared.messages import SCHEMA_VERSION, Escalation, Reply, Tensor
from shared.metrics import NodeMetrics
from shared.model import Model
from tests.builders import SHAPE, escalated, load_echo
from tier2.answering import Outcome
from tier2.config import Tier2PipelineConfig
from tier2.pipeline import Tier2Pipeline
from tier2.upstream import Asked, Late

SURE = [0.05, 0.9, 0.05]
UNSURE = [0.5, 0.3, 0.2]
BROKEN = [float("nan")] * 3
REGIONAL = [0.1, 0.1, 0.8]


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that answers a sample's own features, sure from 0.8 on."""
    return load_echo(tmp_path_factory.mktemp("echo"), threshold=0.8, version="7")


class Rig:
    """A pipeline between asking nodes and a region that a test speaks for."""

    def __init__(self, model: Model, *, threshold: float | None = None, **escalation: Any) -> None:
        escalation = {"audit_share": 0.0, "deadline_ms": 1000.0} | escalation
        self.metrics = NodeMetrics(CollectorRegistry())
        self.pipeline = Tier2Pipeline(
            name="meter",
            config=_config(threshold, escalation),
            name_upstream="plant.tier2-a",
            rng=random.Random(1),
            metrics=self.metrics,
            wake=lambda: None,
        )
        self.pipeline.slot.model = model
        self.reachable = True

    def ask(
        self, *rows: list[float], first: int = 0, budget_ms: float = 500.0, now_s: float = 0.0,
        **sample: Any,
    ) -> Outcome:  # fmt: skip
        """Puts questions of one node; returns what comes of them."""
        samples = tuple(
            msgspec.structs.replace(escalated(first + place), **sample)
            for place in range(len(rows))
        )
        array = Tensor.of(np.array(rows, np.float32))
        message = Escalation(
            SCHEMA_VERSION, "tier1-a", "meter", "3", budget_ms, 0, 0, samples, array, array
        )
        self.pipeline.admit(message, now_s)
        return self.work(now_s)

    def work(self, now_s: float) -> Outcome:
        self.pipeline.run(now_s)
        return self.pipeline.gate(now_s, reachable=self.reachable) or Outcome()

    def reply(
        self, escalation: Escalation, row: list[float] | None = None, *, now_s: float = 0.1
    ) -> Outcome:
        """The region's answer to a message."""
        numbers = tuple(sample.correlation for sample in escalation.samples)
        rows = np.array([row or REGIONAL] * len(numbers), np.float32)
        reply = Reply(SCHEMA_VERSION, "x", "meter", "region", "9", numbers, Tensor.of(rows))
        return self.pipeline.on_reply(reply, now_s)

    def asked(self, correlation: int) -> Asked | Late | None:
        """What is kept of a question."""
        upstream = self.pipeline._upstream
        assert upstream is not None
        return upstream._escalator.asked(correlation)

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def outcomes(self) -> dict[str, float]:
        kinds = ("asked", "answered", "late", "missed")
        return {
            kind: found
            for kind in kinds
            if (found := self.value("edge_escalations_total", outcome=kind))
        }


def _config(threshold: float | None, escalation: dict[str, Any]) -> Tier2PipelineConfig:
    return Tier2PipelineConfig.model_validate(
        {
            "input": {"shape": SHAPE},
            "releases": {"channel": "full", "trust": __file__},
            "upstream": {"site": "region", "threshold": threshold},
            "escalation": escalation,
        },
        strict=False,
    )


def told(outcome: Outcome) -> dict[int, tuple[str, str, float]]:
    """Who decided each question that is replied to, its version, and the third score."""
    return {
        number: (reply.model, reply.model_version, round(float(row[2]), 3))
        for _, reply, _ in outcome.replies
        for number, row in zip(reply.correlations, reply.probabilities.array(), strict=True)
    }


def recorded(outcome: Outcome) -> dict[int, str]:
    """The deciding version of each question that is recorded."""
    return {record.sample.correlation: record.tier2_version for record, _ in outcome.records}


def test_what_this_node_is_sure_of_it_answers_and_the_rest_goes_up(echo: Model) -> None:
    outcome = Rig(echo).ask(SURE, UNSURE)
    assert told(outcome) == {0: ("meter", "7", 0.05)}
    assert recorded(outcome) == {0: "7"}
    (up,) = outcome.escalations
    assert (up.node, up.pipeline, up.model_version) == ("plant.tier2-a", "meter", "7")
    assert up.recorded
    assert not up.backlog
    (sample,) = up.samples
    assert (sample.id, sample.sensor, sample.reason) == ("id-1", "cam-01", "low_confidence")
    assert not sample.audit
    assert up.inputs.array().tolist() == [pytest.approx(UNSURE)]


def test_the_answer_from_above_is_handed_down_with_its_models_name_and_recorded(
    echo: Model,
) -> None:
    rig = Rig(echo)
    (up,) = rig.ask(SURE, UNSURE).escalations
    outcome = rig.reply(up)
    assert told(outcome) == {1: ("region", "9", 0.8)}
    assert outcome.replies[0].address == "tier1-a"
    ((record, _),) = outcome.records
    assert record.sample == escalated(1)
    assert (record.tier1_version, record.tier2_version) == ("3", "9")
    assert record.tier2_probabilities.array().tolist() == pytest.approx(REGIONAL)
    assert rig.outcomes() == {"asked": 1, "answered": 1}
    assert rig.value("edge_agreement_total", kind="hard", agrees="false") == 1


def test_its_health_counts_what_its_gate_refuses(echo: Model) -> None:
    rig = Rig(echo)
    rig.ask(SURE, UNSURE, SURE)
    health = rig.pipeline.slot.health
    assert (health.gated_samples, health.unsure_samples) == (3, 1)


def test_the_time_of_a_question_above_is_within_what_its_asker_has_left(echo: Model) -> None:
    (up,) = Rig(echo).ask(UNSURE, budget_ms=400.0).escalations
    assert 0 < up.budget_ms == pytest.approx(360.0)
    (usual,) = Rig(echo).ask(UNSURE, budget_ms=60_000.0).escalations
    assert usual.budget_ms == pytest.approx(1000.0)


def test_without_an_answer_this_node_replies_itself_before_its_asker_gives_up(
    echo: Model,
) -> None:
    rig = Rig(echo)
    rig.ask(UNSURE, budget_ms=400.0)
    assert rig.pipeline.due_s(0.0) == pytest.approx(0.36)
    assert rig.pipeline.expire(0.35).replies == []
    outcome = rig.pipeline.expire(0.361)
    assert told(outcome) == {0: ("meter", "7", 0.2)}
    assert recorded(outcome) == {0: "7"}
    assert rig.outcomes() == {"asked": 1, "missed": 1}


def test_an_answer_after_that_is_counted_and_no_more(echo: Model) -> None:
    rig = Rig(echo)
    (up,) = rig.ask(UNSURE).escalations
    rig.pipeline.expire(0.46)
    outcome = rig.reply(up, now_s=0.47)
    assert (outcome.replies, outcome.records) == ([], [])
    assert rig.outcomes() == {"asked": 1, "missed": 1, "late": 1}


def test_a_question_keeps_neither_its_message_nor_its_batch(echo: Model) -> None:
    rig = Rig(echo)
    (up,) = rig.ask(SURE, UNSURE, UNSURE).escalations
    for sample in up.samples:
        asked = rig.asked(sample.correlation)
        assert isinstance(asked, Asked)
        arrays = (asked.row, asked.question.row, asked.question.tier1_probabilities)
        assert [array.base for array in arrays] == [None] * 3
        assert all(array.tolist() == pytest.approx(UNSURE) for array in arrays)


def test_past_its_deadline_a_question_keeps_nothing_but_what_is_counted(echo: Model) -> None:
    rig = Rig(echo)
    (up,) = rig.ask(UNSURE).escalations
    rig.pipeline.expire(0.46)
    assert rig.asked(up.samples[0].correlation) == Late(0, echo.spec, accepted=False)


def test_askers_with_much_and_with_little_time_do_not_share_a_message(echo: Model) -> None:
    rig = Rig(echo)
    rig.pipeline.slot.model, model = None, rig.pipeline.slot.model
    rig.ask(UNSURE, first=0, budget_ms=500.0)
    rig.ask(UNSURE, UNSURE, first=10, budget_ms=480.0)
    rig.ask(UNSURE, first=20, budget_ms=20.0)
    rig.pipeline.slot.model = model
    up = {len(each.samples): each.budget_ms for each in rig.work(0.0).escalations}
    assert up == {3: pytest.approx(432.0), 1: pytest.approx(18.0)}


def test_a_question_with_no_time_left_for_the_way_is_answered_at_once(echo: Model) -> None:
    outcome = Rig(echo).ask(UNSURE, budget_ms=4.0)
    assert outcome.escalations == []
    assert told(outcome) == {0: ("meter", "7", 0.2)}


def test_what_cannot_be_asked_is_answered_at_once(echo: Model) -> None:
    rig = Rig(echo)
    rig.reachable = False
    outcome = rig.ask(UNSURE, SURE)
    assert outcome.escalations == []
    assert told(outcome).keys() == {0, 1}
    assert recorded(outcome).keys() == {0, 1}


def test_what_the_link_did_not_take_is_answered_at_once(echo: Model) -> None:
    rig = Rig(echo)
    (up,) = rig.ask(UNSURE).escalations
    outcome = rig.pipeline.withdraw(up, 0.01)
    assert told(outcome) == {0: ("meter", "7", 0.2)}
    assert rig.pipeline.expire(10.0).replies == []


def test_a_dead_region_is_left_alone_after_a_while(echo: Model) -> None:
    rig = Rig(echo, breaker={"failures": 2, "retry_s": 60.0, "max_retry_s": 60.0})
    for second in range(2):
        assert rig.ask(UNSURE, first=second, now_s=float(second)).escalations
        rig.pipeline.expire(second + 0.9)
    outcome = rig.ask(UNSURE, first=5, now_s=2.0)
    assert outcome.escalations == []
    assert told(outcome).keys() == {5}
    assert rig.value("edge_breaker_open", pipeline="meter") == 1


def test_malformed_scores_go_up_and_without_an_answer_stay_unanswered(echo: Model) -> None:
    rig = Rig(echo)
    (up,) = rig.ask(BROKEN).escalations
    assert up.samples[0].reason == "invalid_scores"
    assert rig.pipeline.expire(1.0).replies == []
    (again,) = rig.ask(BROKEN, first=1, now_s=2.0).escalations
    assert told(rig.reply(again, now_s=2.1)) == {1: ("region", "9", 0.8)}


def test_what_a_node_only_audited_goes_up_too_when_this_one_is_not_sure(echo: Model) -> None:
    rig = Rig(echo)
    (up,) = rig.ask(UNSURE, reason="audit", audit=True, budget_ms=20.0).escalations
    assert up.budget_ms == pytest.approx(1000.0)
    outcome = rig.reply(up, now_s=0.9)
    assert outcome.replies == []
    assert recorded(outcome) == {0: "9"}


def test_its_own_audit_goes_up_beside_its_answer(echo: Model) -> None:
    rig = Rig(echo, audit_share=1.0)
    outcome = rig.ask(SURE)
    assert told(outcome) == {0: ("meter", "7", 0.05)}
    (up,) = outcome.escalations
    assert (up.samples[0].reason, up.samples[0].audit) == ("audit", True)
    after = rig.reply(up)
    assert (after.replies, after.records) == ([], [])
    assert rig.value("edge_agreement_total", kind="audit", agrees="false") == 1
    rig.ask(SURE, first=1)
    assert rig.pipeline.expire(60.0).replies == []


def test_a_backlog_is_this_nodes_to_record_and_does_not_go_up(echo: Model) -> None:
    rig = Rig(echo)
    array = Tensor.of(np.array([UNSURE], np.float32))
    message = Escalation(
        SCHEMA_VERSION, "tier1-a", "meter", "3", 0.0, 0, 0, (escalated(-1),), array, array,
        backlog=True,
    )  # fmt: skip
    rig.pipeline.admit(message, 0.0)
    rig.pipeline.run_late()
    outcome = rig.pipeline.gate(0.0, reachable=True)
    assert outcome is not None
    assert outcome.escalations == []
    assert recorded(outcome) == {-1: "7"}


def test_a_threshold_of_its_own_stands_in_for_the_models(echo: Model) -> None:
    assert Rig(echo, threshold=0.4).ask(UNSURE).escalations == []
    assert len(Rig(echo, threshold=0.95).ask(SURE).escalations) == 1


def test_messages_are_bounded(echo: Model) -> None:
    outcome = Rig(echo, max_batch_samples=2).ask(*[UNSURE] * 5)
    assert [len(each.samples) for each in outcome.escalations] == [2, 2, 1]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(np.zeros((2, 3), np.float32), id="count"),
        pytest.param(np.zeros(1, np.float32), id="flat"),
        pytest.param(np.zeros((1, 3), np.int64), id="dtype"),
    ],
)
def test_a_reply_that_is_none_is_refused(echo: Model, rows: np.ndarray[Any, np.dtype[Any]]) -> None:
    reply = Reply(SCHEMA_VERSION, "x", "meter", "region", "9", (1,), Tensor.of(rows))
    with pytest.raises(PayloadError, match="scores for 1 questions"):
        Rig(echo).pipeline.on_reply(reply, 0.0)


@pytest.mark.parametrize("row", [BROKEN, [0.5, 0.5], [0.9, 0.9, 0.9]], ids=["nan", "short", "sum"])
def test_scores_that_are_none_leave_the_question_open(echo: Model, row: list[float]) -> None:
    rig = Rig(echo)
    (up,) = rig.ask(UNSURE).escalations
    assert rig.reply(up, row).replies == []
    assert rig.value("edge_drops_total", reason="reply_not_usable") == 1
    assert told(rig.reply(up)) == {0: ("region", "9", 0.8)}


class UpstreamCourse(RuleBasedStateMachine):
    """Questions, answers, losses and time in any order: one reply and one record for each."""

    model: Model

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(self.model, max_inflight=6, breaker={"failures": 2, "retry_s": 1.0})
        self.now_s = 0.0
        self.asked = 0
        self.replied: list[int] = []
        self.recorded: list[int] = []
        self.up: list[Escalation] = []

    def note(self, outcome: Outcome) -> None:
        self.replied += told(outcome)
        self.recorded += recorded(outcome)
        self.up += outcome.escalations

    @rule(
        rows=st.lists(st.sampled_from([SURE, UNSURE]), min_size=1, max_size=5),
        budget_ms=st.sampled_from([3.0, 50.0, 800.0]),
        reachable=st.booleans(),
    )
    def ask(self, rows: list[list[float]], budget_ms: float, reachable: bool) -> None:
        self.rig.reachable = reachable
        outcome = self.rig.ask(*rows, first=self.asked, budget_ms=budget_ms, now_s=self.now_s)
        self.asked += len(rows)
        self.note(outcome)

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        if self.up:
            up = self.up[data.draw(st.integers(0, len(self.up) - 1))]
            self.note(self.rig.reply(up, now_s=self.now_s))

    @rule()
    def withdraw(self) -> None:
        if self.up:
            self.note(self.rig.pipeline.withdraw(self.up[-1], self.now_s))

    @rule(passed_s=st.sampled_from([0.001, 0.04, 0.3, 2.0]))
    def let_time_pass(self, passed_s: float) -> None:
        # The loop wakes when something is due, so that it is never late.
        ends_s = self.now_s + passed_s
        while (due_s := self.rig.pipeline.due_s(self.now_s)) is not None and due_s < ends_s:
            self.now_s = max(self.now_s, due_s)
            self.note(self.rig.pipeline.expire(self.now_s))
        self.now_s = ends_s

    @invariant()
    def nothing_is_told_or_recorded_twice(self) -> None:
        assert len(set(self.replied)) == len(self.replied)
        assert len(set(self.recorded)) == len(self.recorded)

    def teardown(self) -> None:
        self.let_time_pass(100.0)
        assert sorted(self.replied) == sorted(self.recorded) == list(range(self.asked))


def test_any_course_of_events_gives_one_reply_and_one_record_a_question(echo: Model) -> None:
    UpstreamCourse.model = echo
    run_state_machine_as_test(
        UpstreamCourse, settings=settings(max_examples=50, deadline=None, database=None)
    )
