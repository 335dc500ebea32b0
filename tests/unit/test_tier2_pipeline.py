"""Tier-2 answers each question once, in time, and lets leave the site what may."""

from __future__ import annotations

import random
from typing import Literal

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from shared.config import BatchingConfig, InputConfig, ModelConfig
from shared.errors import PayloadError
from shared.inputs import Inputs
from shared.messages import EscalatedSample, Escalation, Reply, Tensor
from shared.metrics import NodeMetrics
from shared.model import Model
from tests.builders import LABELS, SHAPE, echo_onnx, escalated, load_echo, spec
from tier2.answering import Outcome
from tier2.config import Tier2PipelineConfig, UplinkConfig
from tier2.pipeline import MAX_LATE_BYTES, Tier2Pipeline

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
    made = Tier2Pipeline(
        name="meter",
        config=pipeline,
        name_upstream="plant.tier2-a",
        rng=random.Random(1),
        metrics=NodeMetrics(CollectorRegistry()),
        wake=lambda: None,
    )
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


def answered(pipeline: Tier2Pipeline, now_s: float = NOW_S) -> Outcome:
    """What comes of the batch that is due."""
    result = poll(pipeline, now_s)
    assert result is not None
    return result


def poll(pipeline: Tier2Pipeline, now_s: float = NOW_S) -> Outcome | None:
    pipeline.run(now_s)
    return pipeline.gate(now_s, reachable=False)


def numbers(outcome: Outcome) -> list[int]:
    """Of the questions that are recorded."""
    return [each.record.sample.correlation for each in outcome.records]


def replies_of(outcome: Outcome) -> dict[str, Reply]:
    return {each.address: each.reply for each in outcome.replies}


def test_a_question_gets_a_reply_and_a_record(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(4), escalated(5)), NOW_S)
    result = answered(pipeline)
    ((address, reply, expiry_s),) = result.replies
    assert (address, expiry_s) == ("tier1-a", BUDGET_MS / 1000)
    assert (reply.node, reply.pipeline, reply.model, reply.model_version) == (
        "tier1-a", "meter", "meter", "7",
    )  # fmt: skip
    assert reply.correlations == (4, 5)
    assert reply.probabilities.array()[0].tolist() == pytest.approx(ROW)
    assert numbers(result) == [4, 5]
    record = result.records[0].record
    assert (record.node, record.tier1_version, record.tier2_version) == ("tier1-a", "3", "7")
    assert record.tier1_probabilities.array().tolist() == pytest.approx(ROW)
    assert poll(pipeline) is None


def test_without_a_node_above_there_is_no_gate_to_count(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(4)), NOW_S)
    answered(pipeline)
    assert (pipeline.slot.health.samples, pipeline.slot.health.gated_samples) == (1, 0)


def test_each_asking_node_gets_its_own_reply(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(1), node="tier1-a"), NOW_S)
    pipeline.admit(questions(escalated(1), escalated(2), node="tier1-b"), NOW_S)
    pipeline.admit(questions(escalated(3), node="tier1-a"), NOW_S)
    replies = replies_of(answered(pipeline))
    assert {name: reply.correlations for name, reply in replies.items()} == {
        "tier1-a": (1, 3),
        "tier1-b": (1, 2),
    }


def test_a_worker_gets_its_reply_at_its_own_address(pipeline: Tier2Pipeline) -> None:
    first = msgspec.structs.replace(questions(escalated(1)), reply_to="tier1-a.w1")
    pipeline.admit(first, NOW_S)
    pipeline.admit(questions(escalated(1)), NOW_S)
    result = answered(pipeline)
    assert {name: reply.node for name, reply in replies_of(result).items()} == {
        "tier1-a.w1": "tier1-a",
        "tier1-a": "tier1-a",
    }
    assert {each.record.node for each in result.records} == {"tier1-a"}


def test_a_question_delivered_twice_is_answered_and_recorded_once(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(4)), NOW_S)
    pipeline.admit(questions(escalated(4), escalated(5)), NOW_S)
    result = answered(pipeline)
    assert numbers(result) == [4, 5]
    pipeline.admit(questions(escalated(4)), NOW_S)
    assert poll(pipeline) is None


def test_what_nobody_waits_for_any_more_is_shed_and_counted(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(1)), NOW_S)
    pipeline.admit(questions(escalated(2)), NOW_S + 0.4)
    result = answered(pipeline, NOW_S + 0.5)
    assert numbers(result) == [2]
    assert result.replies[0].reply.correlations == (2,)
    assert drops(pipeline, "deadline") == 1


def test_a_batch_that_is_all_too_late_costs_no_inference(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(1)), NOW_S)
    assert poll(pipeline, NOW_S + 60.0) is None
    assert pipeline.slot.health.batches == 0


def test_an_audit_is_never_shed(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(1, reason="audit", audit=True)), NOW_S)
    result = answered(pipeline, NOW_S + 3600.0)
    assert numbers(result) == [1]
    assert drops(pipeline, "deadline") == 0


def test_a_late_audit_of_an_unsure_sample_is_recorded_though_nobody_waits(
    pipeline: Tier2Pipeline,
) -> None:
    pipeline.admit(questions(escalated(1), escalated(2, audit=True)), NOW_S)
    result = answered(pipeline, NOW_S + 3600.0)
    assert numbers(result) == [2]
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
    assert {each.sample.correlation for each, _ in records if each.input is not None} == leaving


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
    assert poll(pipeline) is None


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
    assert poll(pipeline) is None


def test_malformed_scores_are_no_answer_and_spoil_no_neighbour(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(questions(escalated(1), row=[float("nan"), 0.5, 0.5]), NOW_S)
    pipeline.admit(questions(escalated(2)), NOW_S)
    result = answered(pipeline)
    assert result.replies[0].reply.correlations == (2,)
    assert numbers(result) == [2]
    health = pipeline.slot.health
    assert (health.batches, health.broken_batches) == (1, 1)


def test_a_model_that_cannot_run_leaves_the_answer_to_tier1(
    model_config: ModelConfig, broken: Model
) -> None:
    pipeline = make(model_config, broken)
    pipeline.admit(questions(escalated(1)), NOW_S)
    result = answered(pipeline)
    assert (result.replies, result.records) == ([], [])
    assert pipeline.slot.health.broken_batches == 1


def test_without_a_model_questions_wait_for_the_first_one(
    model_config: ModelConfig, echo: Model
) -> None:
    pipeline = make(model_config, None)
    pipeline.admit(questions(escalated(1)), NOW_S)
    assert poll(pipeline) is None
    assert pipeline.due_s(NOW_S) is None
    pipeline.slot.model = echo
    assert pipeline.due_s(NOW_S) == NOW_S
    assert len(answered(pipeline).records) == 1


def test_what_the_asking_node_records_itself_is_answered_and_not_recorded(
    pipeline: Tier2Pipeline,
) -> None:
    pipeline.admit(msgspec.structs.replace(questions(escalated(1)), recorded=True), NOW_S)
    result = answered(pipeline)
    assert result.replies[0].reply.correlations == (1,)
    assert result.records == []


def test_a_large_batch_of_many_labels_is_replied_to_in_parts(
    pipeline: Tier2Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tier2.answering.MAX_REPLY_BYTES", 50)
    pipeline.admit(questions(*(escalated(number) for number in range(5))), NOW_S)
    parts = [each.reply for each in answered(pipeline).replies]
    assert [part.correlations for part in parts] == [(0, 1), (2, 3), (4,)]
    assert [part.probabilities.shape for part in parts] == [(2, 3), (2, 3), (1, 3)]


# The backlog of the asking nodes


def late(*numbers: int, node: str = "tier1-a", row: list[float] | None = None) -> Escalation:
    """A message of a node's backlog, whose numbers are below 0."""
    message = questions(*(escalated(-number) for number in numbers), node=node, row=row)
    return msgspec.structs.replace(message, backlog=True, budget_ms=0.0, seen=0, unsure=0)


def late_outcome(pipeline: Tier2Pipeline, now_s: float = NOW_S) -> Outcome | None:
    pipeline.run_late()
    return pipeline.gate(now_s, reachable=False)


def test_a_backlog_waits_until_nothing_live_does(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(late(1), NOW_S)
    pipeline.admit(questions(escalated(5)), NOW_S)
    assert late_outcome(pipeline) is None
    assert numbers(answered(pipeline)) == [5]
    assert pipeline.due_s(NOW_S + 9) == NOW_S + 9
    result = late_outcome(pipeline, NOW_S + 3600.0)
    assert result is not None
    assert numbers(result) == [-1]
    assert result.replies == []


def test_a_backlog_is_confirmed_whole_once_all_of_it_has_its_records(
    model_config: ModelConfig, echo: Model
) -> None:
    pipeline = make(model_config, echo, batch=2)
    pipeline.admit(late(1, 2, 3), NOW_S)
    assert len(late_outcome(pipeline).records) == 2  # type: ignore[union-attr]
    assert not pipeline.has_settled
    assert len(late_outcome(pipeline).records) == 1  # type: ignore[union-attr]
    assert pipeline.has_settled
    ((address, reply, expiry_s),) = pipeline.confirm()
    assert (address, reply.correlations, expiry_s) == ("tier1-a", (-1, -2, -3), None)
    assert len(reply.probabilities.array()) == 3
    assert not pipeline.has_settled
    assert pipeline.confirm() == []


def test_a_backlog_that_comes_again_is_recorded_once_and_confirmed_again(
    pipeline: Tier2Pipeline,
) -> None:
    pipeline.admit(late(1, 2), NOW_S)
    pipeline.admit(late(1, 2), NOW_S)
    result = late_outcome(pipeline)
    assert result is not None
    assert len(result.records) == 2
    pipeline.admit(late(1, 2), NOW_S)  # done with, but not confirmed: it is in hand still
    assert len(pipeline.confirm()) == 1
    pipeline.admit(late(1, 2), NOW_S)
    assert late_outcome(pipeline) is None
    assert [each.reply.correlations for each in pipeline.confirm()] == [(-1, -2)]


def test_a_message_of_which_something_has_no_record_is_not_confirmed(
    pipeline: Tier2Pipeline, echo: Model, broken: Model
) -> None:
    pipeline.slot.model = broken
    pipeline.admit(late(1, 2), NOW_S)
    result = late_outcome(pipeline)
    assert result is not None
    assert result.records == []
    assert pipeline.has_settled
    assert pipeline.confirm() == []
    assert not pipeline.has_settled
    pipeline.slot.model = echo
    pipeline.admit(late(1, 2), NOW_S)
    result = late_outcome(pipeline)
    assert result is not None
    assert numbers(result) == [-1, -2]
    assert [each.reply.correlations for each in pipeline.confirm()] == [(-1, -2)]


def test_of_a_message_that_comes_again_only_what_was_lost_is_taken(
    pipeline: Tier2Pipeline,
) -> None:
    message = late(1, 2, 3)
    rows = np.array([ROW, [float("nan")] * 3, ROW], np.float32)
    poisoned = msgspec.structs.replace(message, inputs=Tensor.of(rows))
    pipeline.admit(poisoned, NOW_S)
    result = late_outcome(pipeline)
    assert result is not None
    assert numbers(result) == [-1, -3]
    assert pipeline.confirm() == []
    for _ in range(2):
        pipeline.admit(poisoned, NOW_S)
        result = late_outcome(pipeline)
        assert result is not None
        assert result.records == []
        assert pipeline.confirm() == []
    pipeline.admit(message, NOW_S)
    result = late_outcome(pipeline)
    assert result is not None
    assert numbers(result) == [-2]
    assert [each.reply.correlations for each in pipeline.confirm()] == [(-1, -2, -3)]


def test_a_record_that_was_thrown_away_keeps_its_message_from_being_confirmed(
    pipeline: Tier2Pipeline,
) -> None:
    pipeline.admit(late(1, 2), NOW_S)
    result = late_outcome(pipeline)
    assert result is not None
    record, message = result.records[1]
    assert message is not None
    message.lost.add(record.sample.correlation)
    assert pipeline.confirm() == []
    pipeline.admit(late(1, 2), NOW_S)
    result = late_outcome(pipeline)
    assert result is not None
    assert numbers(result) == [-2]
    assert len(pipeline.confirm()) == 1


def test_more_backlog_than_there_is_room_for_is_left_to_its_node_and_counted(
    pipeline: Tier2Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline._late, "_max_bytes", 60)
    assert MAX_LATE_BYTES > 60
    for number in (1, 2, 3, 4):
        pipeline.admit(late(number), NOW_S)
    assert drops(pipeline, "backlog_busy") == 2
    result = late_outcome(pipeline)
    assert result is not None
    assert len(result.records) == 2
    pipeline.confirm()
    pipeline.admit(late(3), NOW_S)
    assert drops(pipeline, "backlog_busy") == 2


def test_a_message_of_a_backlog_without_samples_is_nothing(pipeline: Tier2Pipeline) -> None:
    pipeline.admit(late(), NOW_S)
    assert late_outcome(pipeline) is None
    assert pipeline.confirm() == []
