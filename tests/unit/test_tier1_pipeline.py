"""Exactly one final answer per sample, whatever tier-2 does."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from shared.cascade.config import BreakerConfig, BudgetConfig, EscalationConfig
from shared.cascade.escalations import MAX_LATE_S
from shared.config import BatchingConfig, InputConfig, ModelConfig
from shared.errors import PayloadError
from shared.inputs import Inputs
from shared.messages import Escalation, PackPrediction, Prediction, Reply, Tensor
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.mqtt.message import Message
from shared.scores import Floats
from tests.builders import LABELS, SHAPE, echo_onnx, load_echo, spec
from tests.watch_rig import certified
from tier1.answers import Answer, Late
from tier1.config import Tier1PipelineConfig
from tier1.deliveries import Taken
from tier1.pipeline import Outcome, Refusal, Tier1Pipeline
from tier1.questions import Question

DEADLINE_S = 0.5
SURE = [0.05, 0.9, 0.05]
UNSURE = [0.4, 0.3, 0.3]
MALFORMED = [0.9, 0.9, 0.9]
TIER2 = [0.0, 0.25, 0.75]


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that answers a sample's own features; it is sure from 0.8 on."""
    return load_echo(tmp_path_factory.mktemp("echo"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that loaded, but cannot run on this pipeline's samples."""
    path = tmp_path_factory.mktemp("broken") / "echo4.onnx"
    path.write_bytes(echo_onnx(4))
    return Model.load(path, spec(labels=("a", "b", "c", "d"), version="bad"), Inputs.plain((4,)))


@pytest.fixture(scope="module")
def model_config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """The model that the pipeline's configuration names."""
    path = tmp_path_factory.mktemp("config") / "echo.onnx"
    path.write_bytes(echo_onnx())
    return ModelConfig(path=path, labels=LABELS)


class Rig:
    """A pipeline, with the samples that went in and the answers that came out."""

    def __init__(
        self,
        config: ModelConfig,
        model: Model | None,
        *,
        batch: int = 8,
        queue: int = 1000,
        seed: int = 1,
        shown: bool = False,
        **escalation: Any,
    ) -> None:
        self.metrics = NodeMetrics(CollectorRegistry())
        pipeline = Tier1PipelineConfig(
            input=InputConfig(shape=SHAPE),
            model=config,
            batching=BatchingConfig(max_batch_size=batch, queue_size=queue),
            escalation=EscalationConfig(
                **{"deadline_ms": DEADLINE_S * 1000, "audit_share": 0.0, **escalation}
            ),
            probabilities=shown,
        )
        self.pipeline = Tier1Pipeline(
            name="meter",
            node="tier1-a",
            reply_to="tier1-a.w1",
            config=pipeline,
            rng=random.Random(seed),
            metrics=self.metrics,
            wake=lambda: None,
        )
        self.pipeline.slot.put(model)
        self.reachable = True
        self.now_s = 100.0
        self.admitted = 0
        self.answers: list[Answer] = []
        self.escalations: list[Escalation] = []
        self.unasked: list[Question] = []
        self.refused: list[Refusal] = []

    def admit(self, scores: list[float]) -> bool:
        number = self.admitted
        self.admitted += 1
        return self._admit(number, scores, 1, is_pack=False)

    def admit_pack(self, *samples: list[float]) -> bool:
        number = self.admitted
        self.admitted += 1
        rows = np.array(samples, np.float32)
        return self._admit(number, rows, len(samples), is_pack=True)

    def _admit(self, number: int, rows: Any, size: int, *, is_pack: bool) -> bool:
        message = Message("a/b/c/samples/cam-01", b"", 1, number + 1, 1)
        taken = Taken(
            message, "cam-01", self.now_s, rows, f"id-{number}", 5.0 + number, size, is_pack
        )
        return self.pipeline.admit(taken)

    def infer(self) -> None:
        self.refused += self.pipeline.run(self.now_s)
        outcome = self.pipeline.gate(self.now_s, reachable=self.reachable)
        if outcome is not None:
            self.collect(outcome)

    def collect(self, outcome: Outcome) -> None:
        self.answers += outcome.answers
        self.escalations += outcome.escalations
        self.unasked += [each for batch in outcome.unasked for each in batch]

    def ask(self, *samples: list[float]) -> Escalation:
        """Admits one batch of samples; returns the questions that come of it."""
        for scores in samples:
            self.admit(scores)
        self.infer()
        return self.escalations[-1]

    def reply(self, correlations: tuple[int, ...], rows: Floats) -> None:
        reply = Reply(1, "tier1-a", "meter", "meter-tier2", "7", correlations, Tensor.of(rows))
        self.answers += self.pipeline.on_reply(reply, self.now_s)

    def reply_all(self, escalation: Escalation, row: list[float]) -> None:
        numbers = tuple(sample.correlation for sample in escalation.samples)
        self.reply(numbers, np.array([row] * len(numbers), np.float32))

    def pass_time(self, passed_s: float) -> None:
        self.now_s += passed_s
        self.answers += self.pipeline.expire(self.now_s)

    def finish(self) -> None:
        for _ in range(self.admitted + 1):
            self.infer()
        self.pass_time(DEADLINE_S)

    @property
    def predictions(self) -> list[Prediction]:
        """The answers to single samples, and the corrections."""
        answers = [answer.prediction for answer in self.answers]
        return [answer for answer in answers if isinstance(answer, Prediction)]

    @property
    def decided(self) -> list[tuple[str, str, str]]:
        """Who decided each answer, why, and what."""
        return [(each.decided_by, each.reason, each.prediction) for each in self.predictions]

    @property
    def pack(self) -> PackPrediction:
        """The only answer, to a pack."""
        ((answer),) = self.answers
        assert isinstance(answer.prediction, PackPrediction)
        return answer.prediction

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def rig(model_config: ModelConfig, echo: Model) -> Rig:
    return Rig(model_config, echo)


def test_a_sure_sample_is_answered_at_once_by_tier1(rig: Rig) -> None:
    rig.admit(SURE)
    rig.now_s += 0.002
    rig.infer()
    assert rig.escalations == []
    (answer,), (prediction,) = rig.answers, rig.predictions
    assert (prediction.decided_by, prediction.reason) == ("tier1", "confident")
    assert (prediction.id, prediction.device_id, prediction.timestamp) == ("id-0", "cam-01", 5.0)
    assert prediction.prediction == "one"
    assert prediction.confidence == pytest.approx(0.9)
    assert (prediction.model, prediction.model_version) == ("meter", "1")
    assert prediction.latency_ms == pytest.approx(2.0)
    assert not prediction.is_correction
    assert prediction.probabilities is msgspec.UNSET
    assert answer.taken is not None
    assert answer.taken.message.mid == 1


def test_an_unsure_sample_is_answered_by_tier2_with_tier2s_model(rig: Rig) -> None:
    escalation = rig.ask(UNSURE)
    assert rig.answers == []
    rig.reply_all(escalation, TIER2)
    (answer,), (prediction,) = rig.answers, rig.predictions
    assert rig.decided == [("tier2", "low_confidence", "two")]
    assert (prediction.model, prediction.model_version) == ("meter-tier2", "7")
    assert prediction.confidence == 0.75
    assert answer.taken is not None


def test_the_question_carries_what_tier2_and_telemetry_need(rig: Rig) -> None:
    escalation = rig.ask(SURE, UNSURE, MALFORMED)
    assert [sample.id for sample in escalation.samples] == ["id-1", "id-2"]
    assert [sample.reason for sample in escalation.samples] == ["low_confidence", "invalid_scores"]
    assert (escalation.node, escalation.pipeline) == ("tier1-a", "meter")
    assert escalation.model_version == "1"
    assert escalation.budget_ms == DEADLINE_S * 1000
    assert escalation.inputs.array()[0].tolist() == pytest.approx(UNSURE)
    assert escalation.probabilities.array().shape == (2, 3)


def test_without_an_answer_tier1_decides_at_the_deadline_by_itself(rig: Rig) -> None:
    rig.ask(UNSURE)
    rig.pass_time(DEADLINE_S - 0.01)
    assert rig.answers == []
    rig.pass_time(0.01)
    assert rig.decided == [("fallback", "deadline", "zero")]
    rig.pass_time(100.0)
    assert len(rig.answers) == 1


def test_an_answer_past_the_deadline_corrects_once_and_says_what_it_supersedes(rig: Rig) -> None:
    escalation = rig.ask(UNSURE)
    rig.pass_time(DEADLINE_S)
    rig.reply_all(escalation, TIER2)
    rig.reply_all(escalation, TIER2)
    assert rig.decided[1:] == [("tier2", "low_confidence", "two")]
    correction = rig.predictions[1]
    assert correction.supersedes == correction.id == "id-0"
    assert rig.answers[1].taken is None
    assert rig.value("edge_escalations_total", outcome="late") == 1


def test_a_question_keeps_its_own_numbers_and_not_those_of_its_batch(rig: Rig) -> None:
    escalation = rig.ask(SURE, UNSURE, UNSURE)
    for sample in escalation.samples:
        question = rig.pipeline._escalator.asked(sample.correlation)
        assert isinstance(question, Question)
        assert question.features.base is question.own.probabilities.base is None
        assert question.features.tolist() == pytest.approx(UNSURE)


def test_a_pack_that_waits_keeps_no_other_samples_of_its_batch(rig: Rig) -> None:
    rig.admit(SURE)
    rig.admit_pack(SURE, UNSURE)
    rig.infer()
    (sample,) = rig.escalations[0].samples
    question = rig.pipeline._escalator.asked(sample.correlation)
    assert isinstance(question, Question)
    assert question.pack is not None
    assert question.pack.probabilities.base is None


def test_past_the_deadline_neither_sample_nor_message_nor_pack_is_kept(
    rig: Rig, echo: Model
) -> None:
    rig.admit_pack(SURE, UNSURE)
    rig.infer()
    (sample,) = rig.escalations[0].samples
    rig.pass_time(DEADLINE_S)
    late = rig.pipeline._escalator.asked(sample.correlation)
    certainty = float(np.float32(UNSURE[0]))
    assert late == Late(
        "id-0/1", "cam-01", 5.0, 100.0, False, "low_confidence", 0, certainty, echo.spec
    )


def test_an_answer_that_comes_a_minute_too_late_corrects_nothing(rig: Rig) -> None:
    escalation = rig.ask(UNSURE)
    rig.pass_time(DEADLINE_S)
    rig.pass_time(MAX_LATE_S)
    rig.reply_all(escalation, TIER2)
    assert rig.decided == [("fallback", "deadline", "zero")]
    assert rig.value("edge_drops_total", reason="reply_not_usable") == 1


def test_the_same_reply_twice_answers_once(rig: Rig) -> None:
    escalation = rig.ask(UNSURE, UNSURE)
    rig.reply_all(escalation, TIER2)
    rig.reply_all(escalation, TIER2)
    assert len(rig.answers) == 2
    assert rig.value("edge_drops_total", reason="reply_not_usable") == 2


def test_an_audited_sample_does_not_wait_and_its_reply_changes_no_answer(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, echo, audit_share=1.0)
    escalation = rig.ask(SURE)
    assert rig.decided == [("tier1", "audit", "one")]
    (asked,) = escalation.samples
    assert asked.audit
    assert asked.inclusion_probability == 1.0
    rig.reply_all(escalation, TIER2)
    rig.pass_time(DEADLINE_S)
    assert len(rig.answers) == 1
    assert rig.value("edge_agreement_total", kind="audit", agrees="false") == 1


def test_an_audit_without_a_reply_is_no_fallback_and_its_late_reply_no_correction(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, echo, audit_share=1.0)
    escalation = rig.ask(SURE)
    rig.pass_time(DEADLINE_S)
    rig.reply_all(escalation, TIER2)
    assert len(rig.answers) == 1


def test_agreement_on_hard_samples_is_counted_apart(rig: Rig) -> None:
    escalation = rig.ask(UNSURE)
    rig.reply_all(escalation, UNSURE)
    assert rig.value("edge_agreement_total", kind="hard", agrees="true") == 1


def test_a_malformed_score_escalates_and_falls_back_with_no_confidence(rig: Rig) -> None:
    rig.ask(MALFORMED)
    rig.pass_time(DEADLINE_S)
    (prediction,) = rig.predictions
    assert prediction.decided_by == "fallback"
    assert prediction.confidence == 0.0
    health = rig.pipeline.slot.health
    assert (health.batches, health.broken_batches) == (1, 1)
    assert rig.value("edge_inference_total", model_version="1", status="invalid_scores") == 1


def test_a_model_that_cannot_run_escalates_every_sample_and_kills_nothing(
    model_config: ModelConfig, broken: Model
) -> None:
    rig = Rig(model_config, broken)
    escalation = rig.ask(SURE, UNSURE)
    assert [sample.reason for sample in escalation.samples] == ["invalid_scores"] * 2
    assert rig.pipeline.slot.health.broken_batches == 1
    rig.reply_all(escalation, [0.1, 0.2, 0.3, 0.4])
    assert [by for by, _, _ in rig.decided] == ["tier2"] * 2


def test_its_health_counts_what_the_gate_refuses_what_is_asked_and_what_is_lost(rig: Rig) -> None:
    escalation = rig.ask(SURE, UNSURE, UNSURE)
    health = rig.pipeline.slot.health
    assert (health.gated_samples, health.unsure_samples) == (3, 2)
    assert (health.asked, health.lost) == (2, 0)
    rig.pass_time(DEADLINE_S)
    assert rig.pipeline.slot.health.lost == 2
    rig.reply_all(escalation, TIER2)
    assert rig.pipeline.slot.health.lost == 2


def test_an_answer_in_time_is_not_lost_and_what_was_not_sent_is(rig: Rig) -> None:
    rig.reply_all(rig.ask(UNSURE), TIER2)
    rig.pass_time(DEADLINE_S)
    assert (rig.pipeline.slot.health.asked, rig.pipeline.slot.health.lost) == (1, 0)
    rig.pipeline.withdraw(rig.ask(UNSURE), rig.now_s)
    assert (rig.pipeline.slot.health.asked, rig.pipeline.slot.health.lost) == (2, 1)


def test_a_question_of_the_model_before_that_is_lost_is_not_the_new_ones(
    rig: Rig, echo: Model, broken: Model
) -> None:
    rig.ask(UNSURE)
    rig.pipeline.slot.put(broken)
    rig.pass_time(DEADLINE_S)
    assert rig.pipeline.slot.health.lost == 0


def test_probabilities_are_shown_on_request_even_malformed_ones(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, echo, shown=True)
    rig.admit(SURE)
    rig.finish()
    shown = rig.predictions[0].probabilities
    assert shown == pytest.approx(dict(zip(LABELS, SURE, strict=True)))


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(np.zeros((2, 3), np.float32), id="more-rows-than-ids"),
        pytest.param(np.zeros(3, np.float32), id="one-dimension"),
        pytest.param(np.zeros((0, 3), np.float32), id="no-rows"),
    ],
)
def test_a_reply_whose_scores_do_not_fit_its_ids_is_refused_whole(rig: Rig, rows: Floats) -> None:
    escalation = rig.ask(UNSURE)
    with pytest.raises(PayloadError) as refusal:
        rig.reply((escalation.samples[0].correlation,), rows)
    assert refusal.value.reason == "bad_reply"
    rig.pass_time(DEADLINE_S)
    assert rig.decided == [("fallback", "deadline", "zero")]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(MALFORMED, id="malformed"),
        pytest.param([0.5, 0.5], id="too-few-labels"),
        pytest.param([0.25] * 4, id="too-many-labels"),
    ],
)
def test_an_unusable_answer_leaves_the_question_to_a_better_one(rig: Rig, row: list[float]) -> None:
    escalation = rig.ask(UNSURE)
    rig.reply_all(escalation, row)
    assert rig.answers == []
    assert rig.value("edge_drops_total", reason="reply_not_usable") == 1
    rig.reply_all(escalation, TIER2)
    assert [by for by, _, _ in rig.decided] == ["tier2"]


@pytest.mark.parametrize("row", [MALFORMED, [0.5, 0.5]], ids=["malformed", "too-few-labels"])
def test_after_an_unusable_answer_alone_the_deadline_still_answers(
    rig: Rig, row: list[float]
) -> None:
    escalation = rig.ask(UNSURE)
    rig.reply_all(escalation, row)
    rig.pass_time(DEADLINE_S)
    assert rig.decided == [("fallback", "deadline", "zero")]


def test_counts_of_all_samples_ride_on_the_next_question_once(rig: Rig) -> None:
    rig.admit(SURE)
    rig.admit(SURE)
    rig.infer()
    assert rig.escalations == []
    first = rig.ask(SURE, UNSURE)
    second = rig.ask(UNSURE, UNSURE)
    assert (first.seen, first.unsure) == (4, 1)
    assert (second.seen, second.unsure) == (2, 2)


def test_an_audited_sure_sample_does_not_count_as_unsure(
    model_config: ModelConfig, echo: Model
) -> None:
    escalation = Rig(model_config, echo, audit_share=1.0).ask(SURE, SURE, UNSURE)
    assert (escalation.seen, escalation.unsure) == (3, 1)


def test_a_full_queue_refuses_the_newest_and_answers_the_rest(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, echo, queue=2)
    assert [rig.admit(SURE) for _ in range(3)] == [True, True, False]
    rig.finish()
    assert [prediction.id for prediction in rig.predictions] == ["id-0", "id-1"]


def test_the_oldest_can_be_dropped_for_the_newest(model_config: ModelConfig, echo: Model) -> None:
    rig = Rig(model_config, echo, queue=1)
    rig.admit(SURE)
    oldest = rig.pipeline.drop_oldest()
    assert oldest is not None
    assert oldest.id == "id-0"
    rig.admit(SURE)
    rig.finish()
    assert [prediction.id for prediction in rig.predictions] == ["id-1"]


@pytest.mark.parametrize("number", [1e39, -1e39, float("nan")])
def test_a_number_beyond_float32_is_refused_and_its_batch_goes_on(rig: Rig, number: float) -> None:
    rig.admit([0.0, number, 0.0])
    rig.admit(SURE)
    rig.infer()
    ((taken, error),) = rig.refused
    assert taken.id == "id-0"
    assert error.reason == "not_finite"
    assert "features[1]" in str(error)
    assert [prediction.id for prediction in rig.predictions] == ["id-1"]


def test_without_a_model_samples_wait_for_the_first_one(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, None)
    rig.admit(SURE)
    rig.infer()
    assert rig.answers == []
    assert rig.pipeline.due_s() is None
    rig.pipeline.slot.model = echo
    assert rig.pipeline.due_s() == rig.now_s
    rig.infer()
    assert len(rig.answers) == 1


def test_a_question_of_an_earlier_model_is_answered_with_its_own_labels(
    rig: Rig, broken: Model
) -> None:
    escalation = rig.ask(UNSURE)
    rig.pipeline.slot.model = broken
    rig.reply_all(escalation, TIER2)
    assert rig.decided == [("tier2", "low_confidence", "two")]


def test_two_samples_with_the_same_id_are_two_samples(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, echo)
    rig.admit(UNSURE)
    rig.admitted = 0
    escalation = rig.ask(UNSURE)
    assert len({sample.correlation for sample in escalation.samples}) == 2
    rig.reply_all(escalation, TIER2)
    assert [prediction.id for prediction in rig.predictions] == ["id-0", "id-0"]


def test_two_lives_of_a_node_do_not_use_the_same_numbers(
    model_config: ModelConfig, echo: Model
) -> None:
    lives = [Rig(model_config, echo, seed=seed).ask(UNSURE) for seed in (1, 2)]
    assert lives[0].samples[0].correlation != lives[1].samples[0].correlation


REPLY = st.tuples(
    st.just("reply"),
    st.sampled_from([TIER2, UNSURE, MALFORMED, [0.5, 0.5]]),
    # Any questions in any order: some answered before or long ago, some never asked.
    st.lists(st.integers(-1, 20), min_size=1, max_size=5),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.sampled_from([SURE, UNSURE, MALFORMED])),
        st.tuples(st.just("infer")),
        REPLY,
        REPLY,
        st.tuples(st.just("time"), st.floats(0, 2 * DEADLINE_S)),
    ),
    min_size=5,
    max_size=40,
)


def take(rig: Rig, step: tuple[Any, ...]) -> None:
    """Takes one of ``STEPS``."""
    match step:
        case ("admit", scores):
            rig.admit(scores)
        case ("infer",):
            rig.infer()
        case ("time", passed_s):
            rig.pass_time(passed_s)
        case ("reply", row, picks):
            asked = [each.correlation for message in rig.escalations for each in message.samples]
            numbers = tuple(asked[pick % len(asked)] if asked and pick >= 0 else -1
                            for pick in picks)  # fmt: skip
            rig.reply(numbers, np.array([row] * len(numbers), np.float32))


@settings(max_examples=200)
@given(
    steps=STEPS,
    batch=st.integers(1, 4),
    audit_share=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_each_sample_gets_exactly_one_final_answer_whatever_happens(
    *,
    model_config: ModelConfig,
    echo: Model,
    steps: list[tuple[Any, ...]],
    batch: int,
    audit_share: float,
    seed: int,
) -> None:
    rig = Rig(model_config, echo, audit_share=audit_share, batch=batch, seed=seed)
    for step in steps:
        take(rig, step)
    rig.finish()
    check_answers(rig)


def check_answers(rig: Rig) -> None:
    pairs = list(zip(rig.answers, rig.predictions, strict=True))
    finals = [(answer, final) for answer, final in pairs if not final.is_correction]
    corrections = [(answer, each) for answer, each in pairs if each.is_correction]
    everyone = {f"id-{number}" for number in range(rig.admitted)}
    assert Counter(final.id for _, final in finals) == Counter(everyone)
    assert Counter(
        answer.taken.message.mid for answer, _ in finals if answer.taken is not None
    ) == Counter(range(1, rig.admitted + 1))
    fallbacks = {final.id for _, final in finals if final.decided_by == "fallback"}
    corrected = [each.supersedes for _, each in corrections]
    assert len(set(corrected)) == len(corrected)
    assert set(corrected) <= fallbacks
    assert all(answer.taken is None for answer, _ in corrections)
    asked = sum(len(message.samples) for message in rig.escalations)
    assert rig.value("edge_escalations_total", outcome="asked") == asked
    assert asked == sum(
        rig.value("edge_escalations_total", outcome=outcome) for outcome in ("answered", "missed")
    )


# Without tier-2


def test_a_dead_tier2_is_left_alone_after_so_many_messages_and_asked_with_one_sample_again(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, echo, breaker=BreakerConfig(failures=2, retry_s=10.0))
    for _ in range(2):
        rig.ask(UNSURE, UNSURE)
        rig.pass_time(DEADLINE_S)
    asked = len(rig.escalations)
    rig.admit(UNSURE)
    rig.infer()
    assert len(rig.escalations) == asked
    assert rig.decided[-1] == ("fallback", "breaker_open", "zero")
    assert [question.taken.id for question in rig.unasked] == ["id-4"]
    rig.now_s += 10.0
    probe = rig.ask(UNSURE, UNSURE)
    assert len(probe.samples) == 1
    assert rig.decided[-1] == ("fallback", "breaker_open", "zero")
    rig.reply_all(probe, TIER2)
    assert len(rig.ask(UNSURE, UNSURE).samples) == 2


def test_without_a_connection_to_tier2_tier1_answers_at_once(rig: Rig) -> None:
    rig.reachable = False
    rig.admit(UNSURE)
    rig.infer()
    assert rig.decided == [("fallback", "unreachable", "zero")]
    assert len(rig.unasked) == 1


def test_what_the_link_does_not_take_is_answered_at_once_and_its_counts_ride_again(
    rig: Rig,
) -> None:
    escalation = rig.ask(UNSURE, SURE)
    rig.collect(rig.pipeline.withdraw(escalation, rig.now_s))
    assert rig.decided[-1] == ("fallback", "unreachable", "zero")
    rig.pass_time(DEADLINE_S)
    assert len(rig.answers) == 2
    again = rig.ask(UNSURE)
    assert (again.seen, again.unsure) == (3, 2)


def test_a_budget_denies_the_hard_and_never_the_audit(
    model_config: ModelConfig, echo: Model
) -> None:
    budget = BudgetConfig(samples_per_minute=1)
    rig = Rig(model_config, echo, budget=budget, audit_share=1.0)
    escalation = rig.ask(SURE, SURE, SURE)
    assert len(escalation.samples) == 3
    plain = Rig(model_config, echo, budget=budget)
    assert len(plain.ask(UNSURE, UNSURE).samples) == 1
    assert plain.decided == [("fallback", "budget", "zero")]


def test_no_more_than_max_inflight_wait_at_a_time(model_config: ModelConfig, echo: Model) -> None:
    rig = Rig(model_config, echo, max_inflight=2)
    escalation = rig.ask(UNSURE, UNSURE, UNSURE)
    assert len(escalation.samples) == 2
    assert rig.decided == [("fallback", "max_inflight", "zero")]
    rig.reply_all(escalation, TIER2)
    assert len(rig.ask(UNSURE, UNSURE).samples) == 2


def test_an_audit_that_cannot_be_asked_has_its_answer_and_waits_for_later(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, echo, audit_share=1.0)
    rig.reachable = False
    rig.admit(SURE)
    rig.infer()
    assert rig.decided == [("tier1", "audit", "one")]
    (question,) = rig.unasked
    (sample,) = rig.pipeline.samples([question])
    assert sample.audit
    assert (sample.id, sample.inclusion_probability) == ("id-0", 1.0)


def test_a_message_holds_no_more_questions_than_it_may(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, echo, max_batch_samples=2)
    rig.ask(UNSURE, UNSURE, UNSURE)
    assert [len(message.samples) for message in rig.escalations] == [2, 1]
    assert {message.reply_to for message in rig.escalations} == {"tier1-a.w1"}


# Packs


def test_a_pack_is_answered_by_one_message_in_its_order(rig: Rig) -> None:
    rig.admit_pack(SURE, [0.9, 0.05, 0.05])
    rig.now_s += 0.002
    rig.infer()
    pack = rig.pack
    assert (pack.id, pack.device_id, pack.timestamp) == ("id-0", "cam-01", 5.0)
    assert pack.predictions == ["one", "zero"]
    assert pack.confidences == [pytest.approx(0.9)] * 2
    assert pack.decided_by == ["tier1"] * 2
    assert pack.reasons == ["confident"] * 2
    assert pack.latency_ms == pytest.approx(2.0)
    assert rig.answers[0].taken is not None


def test_a_pack_waits_for_its_last_sample_and_says_who_decided_each(rig: Rig) -> None:
    rig.admit_pack(UNSURE, SURE, UNSURE)
    rig.infer()
    assert rig.answers == []
    (escalation,) = rig.escalations
    assert [sample.id for sample in escalation.samples] == ["id-0/0", "id-0/2"]
    rig.reply((escalation.samples[1].correlation,), np.array([TIER2], np.float32))
    assert rig.answers == []
    rig.pass_time(DEADLINE_S)
    pack = rig.pack
    assert pack.decided_by == ["fallback", "tier1", "tier2"]
    assert pack.reasons == ["deadline", "confident", "low_confidence"]
    assert pack.predictions == ["zero", "one", "two"]
    assert pack.model_versions == ["1", "1", "7"]


def test_a_late_answer_to_a_packs_sample_corrects_that_sample(rig: Rig) -> None:
    rig.admit_pack(UNSURE, SURE)
    rig.infer()
    rig.pass_time(DEADLINE_S)
    rig.reply_all(rig.escalations[0], TIER2)
    correction = rig.predictions[0]
    assert correction.supersedes == correction.id == "id-0/0"
    assert rig.answers[1].taken is None


def test_packs_and_singles_share_a_batch(rig: Rig) -> None:
    rig.admit(SURE)
    rig.admit_pack(UNSURE, UNSURE)
    rig.admit(UNSURE)
    rig.infer()
    (escalation,) = rig.escalations
    assert [sample.id for sample in escalation.samples] == ["id-1/0", "id-1/1", "id-2"]
    rig.reply_all(escalation, TIER2)
    assert len(rig.answers) == 3


def test_a_pack_with_a_number_that_is_not_finite_is_refused_whole(rig: Rig) -> None:
    rig.admit_pack(SURE, [0.1, float("inf"), 0.0])
    rig.infer()
    ((taken, error),) = rig.refused
    assert taken.id == "id-0"
    assert "features[1] of sample 1" in str(error)
    assert rig.answers == []


def test_a_packs_probabilities_are_those_of_whoever_decided(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, echo, shown=True)
    rig.admit_pack(SURE, UNSURE)
    rig.infer()
    rig.reply_all(rig.escalations[0], TIER2)
    shown = np.array(rig.pack.probabilities)
    np.testing.assert_allclose(shown, np.array([SURE, TIER2]), rtol=1e-6)


# The audit tests the certificate


def audit(rig: Rig, batches: int, sample: list[float], answer: list[float]) -> None:
    """Has audited samples go through, eight a batch, and tier-2 answer them."""
    for _ in range(batches):
        rig.reply_all(rig.ask(*[sample] * 8), answer)


def test_audited_answers_that_disagree_break_the_certificate_and_stop_the_gate(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, certified(echo, threshold=0.8), audit_share=1.0)
    audit(rig, 5, SURE, TIER2)
    assert rig.pipeline.slot.info is not None
    assert rig.pipeline.slot.info.certificate == "broken"
    asked = rig.ask(SURE)
    assert [sample.reason for sample in asked.samples] == ["low_confidence"]
    assert asked.certificate == "broken"


def test_audited_answers_that_agree_leave_it_as_it_is(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, certified(echo, threshold=0.8), audit_share=1.0)
    audit(rig, 50, SURE, SURE)
    assert rig.ask(SURE).certificate == "holds"
    assert rig.decided[-1] == ("tier1", "audit", "one")


def test_a_late_answer_to_an_audited_sample_is_evidence_too(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, certified(echo, threshold=0.8), audit_share=1.0)
    escalations = [rig.ask(*[SURE] * 8) for _ in range(5)]
    rig.pass_time(DEADLINE_S)
    for escalation in escalations:
        rig.reply_all(escalation, TIER2)
    assert rig.pipeline.watch.threshold(echo) == echo.spec.calibration.threshold
    assert rig.ask(SURE).certificate == "broken"


def test_hard_samples_are_no_evidence_whatever_tier2_says(
    model_config: ModelConfig, echo: Model
) -> None:
    """Not even those that the audit drew: tier-1 has not answered them."""
    rig = Rig(model_config, certified(echo, threshold=0.8), audit_share=1.0)
    audit(rig, 50, UNSURE, TIER2)
    (kept,) = rig.pipeline.watch.kept
    assert kept.risk.total == 0
    assert rig.ask(SURE).certificate == "holds"


def test_what_is_answered_twice_is_evidence_once(model_config: ModelConfig, echo: Model) -> None:
    rig = Rig(model_config, certified(echo, threshold=0.8), audit_share=1.0)
    escalation = rig.ask(SURE)
    for _ in range(20):
        rig.reply_all(escalation, TIER2)
    (kept,) = rig.pipeline.watch.kept
    assert (kept.risk.bad, kept.risk.total) == (1, 1)


def test_the_alarms_of_a_drift_go_up_with_the_counts_once(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, certified(echo, threshold=0.8), batch=50, max_inflight=10**6)
    for _ in range(100):
        rig.ask(*[SURE] * 45, *[UNSURE] * 5)
    before = sum(each.drift_alarms for each in rig.escalations)
    for _ in range(40):
        rig.ask(*[UNSURE] * 50)
    told = [each.drift_alarms for each in rig.escalations]
    assert (before, sum(told)) == (0, 2)  # of the escalation rate, and of the confidence
    assert rig.escalations[-1].certificate == "void"


def test_alarms_that_were_not_sent_go_with_the_next_message(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, echo)
    escalation = msgspec.structs.replace(rig.ask(UNSURE), drift_alarms=2)
    rig.pipeline.withdraw(escalation, rig.now_s)
    assert rig.ask(UNSURE).drift_alarms == 2
