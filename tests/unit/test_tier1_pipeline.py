"""Exactly one final answer per sample, whatever tier-2 does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from shared.config import BatchingConfig, InputConfig, ModelConfig
from shared.errors import PayloadError
from shared.messages import Escalation, Reply, Tensor
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.mqtt.message import Message
from shared.releases.updater import Health
from shared.scores import Floats
from tests.builders import LABELS, SHAPE, echo_onnx, load_echo, spec
from tier1.config import EscalationConfig, Tier1PipelineConfig
from tier1.pipeline import Answer, Received, Tier1Pipeline
from tier1.samples import DecodedSample

DEADLINE_S = 0.5
SURE = [0.05, 0.9, 0.05]
UNSURE = [0.4, 0.3, 0.3]
MALFORMED = [float("nan"), 0.5, 0.5]
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
    return Model.load(path, spec(labels=("a", "b", "c", "d"), version="bad"), (4,))


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
        audit_share: float = 0.0,
        batch: int = 8,
        queue: int = 1000,
        seed: int = 1,
        shown: bool = False,
    ) -> None:
        self.metrics = NodeMetrics(CollectorRegistry())
        pipeline = Tier1PipelineConfig(
            input=InputConfig(shape=SHAPE),
            model=config,
            batching=BatchingConfig(max_batch_size=batch, queue_size=queue),
            escalation=EscalationConfig(deadline_ms=DEADLINE_S * 1000, audit_share=audit_share),
            probabilities=shown,
        )
        rng = np.random.default_rng(seed)
        self.pipeline = Tier1Pipeline("meter", "tier1-a", pipeline, rng, self.metrics)
        self.pipeline.slot.model = model
        self.now_s = 100.0
        self.admitted = 0
        self.answers: list[Answer] = []
        self.escalations: list[Escalation] = []

    def admit(self, scores: list[float]) -> None:
        number = self.admitted
        sample = DecodedSample(f"id-{number}", 5.0 + number, np.array(scores, np.float32))
        message = Message("a/b/c/samples/cam-01", b"", 1, number + 1, 1)
        self.pipeline.admit(Received(sample, "cam-01", message, self.now_s))
        self.admitted += 1

    def infer(self) -> None:
        outcome = self.pipeline.infer(self.now_s)
        self.answers += outcome.answers
        self.escalations += [outcome.escalation] if outcome.escalation is not None else []

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
    def decided(self) -> list[tuple[str, str, str]]:
        """Who decided each answer, why, and what."""
        answers = [answer.prediction for answer in self.answers]
        return [(each.decided_by, each.reason, each.prediction) for each in answers]

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
    (answer,) = rig.answers
    prediction = answer.prediction
    assert (prediction.decided_by, prediction.reason) == ("tier1", "confident")
    assert (prediction.id, prediction.device_id, prediction.timestamp) == ("id-0", "cam-01", 5.0)
    assert prediction.prediction == "one"
    assert prediction.confidence == pytest.approx(0.9)
    assert (prediction.model, prediction.model_version) == ("meter", "1")
    assert prediction.latency_ms == pytest.approx(2.0)
    assert not prediction.is_correction
    assert prediction.probabilities is msgspec.UNSET
    assert answer.message is not None
    assert answer.message.mid == 1


def test_an_unsure_sample_is_answered_by_tier2_with_tier2s_model(rig: Rig) -> None:
    escalation = rig.ask(UNSURE)
    assert rig.answers == []
    rig.reply_all(escalation, TIER2)
    (answer,) = rig.answers
    prediction = answer.prediction
    assert rig.decided == [("tier2", "low_confidence", "two")]
    assert (prediction.model, prediction.model_version) == ("meter-tier2", "7")
    assert prediction.confidence == 0.75
    assert answer.message is not None


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
    correction = rig.answers[1]
    assert correction.prediction.supersedes == correction.prediction.id == "id-0"
    assert correction.message is None
    assert rig.value("edge_escalations_total", outcome="late") == 1


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
    (answer,) = rig.answers
    assert answer.prediction.decided_by == "fallback"
    assert answer.prediction.confidence == 0.0
    assert rig.pipeline.slot.health == Health(batches=1, broken_batches=1)
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


def test_probabilities_are_shown_on_request_even_malformed_ones(
    model_config: ModelConfig, echo: Model
) -> None:
    rig = Rig(model_config, echo, shown=True)
    rig.admit(SURE)
    rig.finish()
    shown = rig.answers[0].prediction.probabilities
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
    rig.admit(SURE)
    rig.admit(SURE)
    with pytest.raises(PayloadError) as refusal:
        rig.admit(SURE)
    assert refusal.value.reason == "queue_full"
    rig.finish()
    assert [answer.prediction.id for answer in rig.answers] == ["id-0", "id-1"]


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
    assert [answer.prediction.id for answer in rig.answers] == ["id-0", "id-0"]


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
    finals = [answer for answer in rig.answers if not answer.prediction.is_correction]
    corrections = [answer for answer in rig.answers if answer.prediction.is_correction]
    everyone = {f"id-{number}" for number in range(rig.admitted)}
    assert Counter(answer.prediction.id for answer in finals) == Counter(everyone)
    assert all(answer.message is not None for answer in finals)
    assert Counter(
        answer.message.mid for answer in finals if answer.message is not None
    ) == Counter(range(1, rig.admitted + 1))
    fallbacks = {each.prediction.id for each in finals if each.prediction.decided_by == "fallback"}
    corrected = [answer.prediction.supersedes for answer in corrections]
    assert len(set(corrected)) == len(corrected)
    assert set(corrected) <= fallbacks
    assert all(answer.message is None for answer in corrections)
    asked = sum(len(message.samples) for message in rig.escalations)
    assert rig.value("edge_escalations_total", outcome="asked") == asked
    assert asked == sum(
        rig.value("edge_escalations_total", outcome=outcome) for outcome in ("answered", "missed")
    )
