"""Tier-2 answers each question once, in time, and lets leave the site what may."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from shared.config import BatchingConfig, InputConfig, ModelConfig
from shared.errors import PayloadError
from shared.inputs import Inputs
from shared.messages import EscalatedSample, Escalation, Tensor
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.releases.updater import Health
from tests.builders import LABELS, SHAPE, echo_onnx, escalated, load_echo, spec
from tier2.config import Tier2PipelineConfig, UplinkConfig
from tier2.pipeline import Answered, Tier2Pipeline

BUDGET_MS = 500.0
NOW_S = 100.0
ROW = [0.125, 0.625, 0.25]


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that answers a sample's own features."""
    return load_echo(tmp_path_factory.mktemp("echo"), version="7")


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


def make(
    config: ModelConfig,
    model: Model | None,
    *,
    inputs: Literal["all", "hard", "none"] = "all",
    batch: int = 8,
    queue: int = 100,
) -> Tier2Pipeline:
    pipeline = Tier2PipelineConfig(
        input=InputConfig(shape=SHAPE),
        model=config,
        batching=BatchingConfig(max_batch_size=batch, queue_size=queue),
        uplink=UplinkConfig(inputs=inputs),
    )
    made = Tier2Pipeline("meter", pipeline, NodeMetrics(CollectorRegistry()))
    made.slot.model = model
    return made


@pytest.fixture
def pipeline(model_config: ModelConfig, echo: Model) -> Tier2Pipeline:
    return make(model_config, echo)


def questions(
    *samples: EscalatedSample, node: str = "tier1-a", row: list[float] | None = None
) -> Escalation:
    rows = Tensor.of(np.array([row or ROW] * len(samples), np.float32).reshape(len(samples), 3))
    return Escalation(1, node, "meter", "3", BUDGET_MS, 9, 2, samples, rows, rows)


def drops(pipeline: Tier2Pipeline, reason: str) -> float:
    registry = pipeline._metrics.registry
    return registry.get_sample_value("edge_drops_total", {"reason": reason}) or 0.0


def answered(pipeline: Tier2Pipeline, now_s: float = NOW_S) -> Answered:
    result = pipeline.infer(now_s)
    assert result is not None
    return result


def test_a_question_gets_a_reply_and_a_record(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(4), escalated(5)), NOW_S)
    result = answered(pipeline)
    (reply,) = result.replies
    assert (reply.node, reply.pipeline, reply.model, reply.model_version) == (
        "tier1-a", "meter", "meter", "7",
    )  # fmt: skip
    assert reply.correlations == (4, 5)
    assert reply.probabilities.array()[0].tolist() == pytest.approx(ROW)
    assert [record.sample.correlation for record in result.records] == [4, 5]
    record = result.records[0]
    assert (record.node, record.tier1_version, record.tier2_version) == ("tier1-a", "3", "7")
    assert record.tier1_probabilities.array().tolist() == pytest.approx(ROW)
    assert pipeline.infer(NOW_S) is None


def test_each_asking_node_gets_its_own_reply(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(1), node="tier1-a"), NOW_S)
    pipeline.admit(questions(escalated(1), escalated(2), node="tier1-b"), NOW_S)
    pipeline.admit(questions(escalated(3), node="tier1-a"), NOW_S)
    replies = {reply.node: reply.correlations for reply in answered(pipeline).replies}
    assert replies == {"tier1-a": (1, 3), "tier1-b": (1, 2)}


def test_a_question_delivered_twice_is_answered_and_recorded_once(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(4)), NOW_S)
    pipeline.admit(questions(escalated(4), escalated(5)), NOW_S)
    result = answered(pipeline)
    assert [record.sample.correlation for record in result.records] == [4, 5]
    pipeline.admit(questions(escalated(4)), NOW_S)
    assert pipeline.infer(NOW_S) is None


def test_what_nobody_waits_for_any_more_is_shed_and_counted(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(1)), NOW_S)
    pipeline.admit(questions(escalated(2)), NOW_S + 0.4)
    result = answered(pipeline, NOW_S + 0.5)
    assert [record.sample.correlation for record in result.records] == [2]
    assert result.replies[0].correlations == (2,)
    assert drops(pipeline, "deadline") == 1


def test_a_batch_that_is_all_too_late_costs_no_inference(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(1)), NOW_S)
    result = answered(pipeline, NOW_S + 60.0)
    assert result == Answered([], [])
    assert pipeline.slot.health.batches == 0


def test_an_audit_is_never_shed(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(1, reason="audit", audit=True)), NOW_S)
    result = answered(pipeline, NOW_S + 3600.0)
    assert [record.sample.correlation for record in result.records] == [1]
    assert drops(pipeline, "deadline") == 0


def test_a_late_audit_of_an_unsure_sample_is_recorded_though_nobody_waits(
    pipeline: Tier2Pipeline,
) -> None:
    pipeline.admit(questions(escalated(1), escalated(2, audit=True)), NOW_S)
    result = answered(pipeline, NOW_S + 3600.0)
    assert [record.sample.correlation for record in result.records] == [2]
    assert result.replies == []


@pytest.mark.parametrize(
    ("inputs", "leaving"),
    [("all", {1, 2, 3}), ("hard", {1, 3}), ("none", set[int]())],
)
def test_only_the_inputs_that_may_leave_the_site_do(
    model_config: ModelConfig,
    echo: Model,
    inputs: Literal["all", "hard", "none"],
    leaving: set[int],
) -> None:
    pipeline = make(model_config, echo, inputs=inputs)
    pipeline.admit(
        questions(escalated(1), escalated(2, reason="audit", audit=True), escalated(3, audit=True)),
        NOW_S,
    )
    records = answered(pipeline).records
    assert len(records) == 3
    assert {each.sample.correlation for each in records if each.input is not None} == leaving


FIT = Tensor.of(np.zeros((1, 3), np.float32))


@pytest.mark.parametrize(
    ("inputs", "scores"),
    [
        pytest.param(np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32), id="rows"),
        pytest.param(np.zeros((1, 4), np.float32), np.zeros((1, 3), np.float32), id="shape"),
        pytest.param(np.zeros(3, np.float32), np.zeros((1, 3), np.float32), id="no-batch"),
        pytest.param(np.zeros((1, 3), np.float32), np.zeros(3, np.float32), id="flat-scores"),
        pytest.param(np.zeros((1, 3), np.float32), np.zeros((2, 3), np.float32), id="scores"),
        pytest.param(np.zeros((1, 3), np.int64), np.zeros((1, 3), np.float32), id="dtype"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_whole(
    pipeline: Tier2Pipeline,
    inputs: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    scores: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> None:
    escalation = Escalation(
        1, "tier1-a", "meter", "3", BUDGET_MS, 1, 1, (escalated(1),), Tensor.of(inputs),
        Tensor.of(scores),
    )  # fmt: skip
    with pytest.raises(PayloadError) as refusal:
        pipeline.admit(escalation, NOW_S)
    assert refusal.value.reason in ("bad_escalation", "bad_tensor")
    assert pipeline.infer(NOW_S) is None


def test_a_broken_tensor_is_refused(pipeline: Tier2Pipeline) -> None:
    broken = Tensor("float32", (1, 3), bytes(5))
    escalation = Escalation(
        1, "tier1-a", "meter", "3", BUDGET_MS, 1, 1, (escalated(1),), broken, FIT
    )
    with pytest.raises(PayloadError) as refusal:
        pipeline.admit(escalation, NOW_S)
    assert refusal.value.reason == "bad_tensor"


def test_past_its_queue_questions_are_dropped_and_counted(
    model_config: ModelConfig, echo: Model
) -> None:
    pipeline = make(model_config, echo, queue=2)
    pipeline.admit(questions(*(escalated(number) for number in range(5))), NOW_S)
    assert len(answered(pipeline).records) == 2
    assert drops(pipeline, "queue_full") == 3


def test_a_large_message_is_answered_batch_by_batch(model_config: ModelConfig, echo: Model) -> None:
    pipeline = make(model_config, echo, batch=2)
    pipeline.admit(questions(*(escalated(number) for number in range(5))), NOW_S)
    sizes = [len(answered(pipeline).records) for _ in range(3)]
    assert sizes == [2, 2, 1]
    assert pipeline.infer(NOW_S) is None


def test_malformed_scores_are_no_answer_and_spoil_no_neighbour(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(1), row=[float("nan"), 0.5, 0.5]), NOW_S)
    pipeline.admit(questions(escalated(2)), NOW_S)
    result = answered(pipeline)
    assert result.replies[0].correlations == (2,)
    assert [record.sample.correlation for record in result.records] == [2]
    assert pipeline.slot.health == Health(batches=1, broken_batches=1)


def test_a_model_that_cannot_run_leaves_the_answer_to_tier1(
    model_config: ModelConfig, broken: Model
) -> None:
    pipeline = make(model_config, broken)
    pipeline.admit(questions(escalated(1)), NOW_S)
    assert answered(pipeline) == Answered([], [])
    assert pipeline.slot.health.broken_batches == 1


def test_without_a_model_questions_wait_for_the_first_one(
    model_config: ModelConfig, echo: Model
) -> None:
    pipeline = make(model_config, None)
    pipeline.admit(questions(escalated(1)), NOW_S)
    assert pipeline.infer(NOW_S) is None
    assert pipeline.due_s() is None
    pipeline.slot.model = echo
    assert pipeline.due_s() == NOW_S
    assert len(answered(pipeline).records) == 1
