"""What reaches tier-2, weighted by its chance to, stands for all samples: also under load."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from shared.cascade.config import BudgetConfig, EscalationConfig
from shared.config import BatchingConfig, InputConfig, ModelConfig
from shared.messages import EscalatedSample, Escalation, Tensor
from shared.metrics import NodeMetrics
from shared.mqtt.message import Message
from tests.builders import LABELS, SHAPE, echo_onnx, load_echo
from tier1.config import Tier1PipelineConfig
from tier1.deliveries import Taken
from tier1.pipeline import Tier1Pipeline
from tier2.config import Tier2PipelineConfig
from tier2.pipeline import Tier2Pipeline

SHARE = 0.1
BATCH = 50
BATCHES = 200
SURE = [0.05, 0.9, 0.05]
UNSURE = [0.4, 0.3, 0.3]


@pytest.fixture
def model_config(tmp_path: Path) -> ModelConfig:
    (tmp_path / "model.onnx").write_bytes(echo_onnx())
    return ModelConfig(path=tmp_path / "model.onnx", labels=LABELS)


def total(samples: Iterable[EscalatedSample], *, hard: bool) -> float:
    """Estimates how many samples of a kind there were (Horvitz and Thompson, 1952)."""
    return sum(
        1 / each.inclusion_probability for each in samples if (each.reason != "audit") is hard
    )


def bound(count: int) -> float:
    """Five standard deviations of the estimate, where only the audit lets through."""
    return 5 * math.sqrt(count * (1 - SHARE) / SHARE)


class Tier1:
    """Tier-1 under load; half of the samples are hard."""

    def __init__(self, model_config: ModelConfig, folder: Path, budget: BudgetConfig) -> None:
        config = Tier1PipelineConfig(
            input=InputConfig(shape=SHAPE),
            model=model_config,
            batching=BatchingConfig(max_batch_size=BATCH),
            escalation=EscalationConfig(
                audit_share=SHARE, budget=budget, max_inflight=10**6, deadline_ms=600_000
            ),
        )
        self.pipeline = Tier1Pipeline(
            name="meter", node="tier1-a", reply_to="", config=config, rng=random.Random(3),
            metrics=NodeMetrics(CollectorRegistry()), wake=lambda: None,
        )  # fmt: skip
        self.pipeline.slot.model = load_echo(folder)

    def run(self, *, keeps: bool) -> tuple[list[EscalatedSample], list[EscalatedSample]]:
        """Returns what is asked at once, and what cannot be asked."""
        asked: list[EscalatedSample] = []
        denied: list[EscalatedSample] = []
        for number in range(BATCHES):
            now_s = 100.0 + 0.1 * number
            for place in range(BATCH):
                scores = UNSURE if place % 2 else SURE
                mid = number * BATCH + place + 1
                message = Message("a/b/c/samples/cam-01", b"", 1, mid, 1)
                self.pipeline.admit(Taken(message, "cam-01", now_s, scores, f"id-{mid}", 0.0))
            self.pipeline.run(now_s)
            outcome = self.pipeline.gate(now_s, reachable=True, keeps=keeps)
            assert outcome is not None
            asked += (sample for each in outcome.escalations for sample in each.samples)
            for questions in outcome.unasked:
                denied += self.pipeline.samples(questions)
        return asked, denied


COUNT = BATCH * BATCHES // 2


def test_beyond_the_budget_what_the_audit_lets_through_stands_for_what_is_lost(
    model_config: ModelConfig, tmp_path: Path
) -> None:
    tier1 = Tier1(model_config, tmp_path, BudgetConfig(samples_per_minute=600))
    asked, denied = tier1.run(keeps=False)
    assert len(denied) > COUNT / 2  # they are lost
    assert abs(total(asked, hard=True) - COUNT) < bound(COUNT)
    assert abs(total(asked, hard=False) - COUNT) < bound(COUNT)
    arrived = sum(each.reason != "audit" for each in asked)
    assert abs(arrived - COUNT) > bound(COUNT)  # with a chance of 1 they would stand for too few


def test_beyond_the_budget_what_is_kept_comes_later_and_stands_for_itself(
    model_config: ModelConfig, tmp_path: Path
) -> None:
    tier1 = Tier1(model_config, tmp_path, BudgetConfig(samples_per_minute=600))
    asked, denied = tier1.run(keeps=True)
    assert denied
    assert total([*asked, *denied], hard=True) == COUNT


def test_within_the_budget_every_hard_sample_stands_for_itself(
    model_config: ModelConfig, tmp_path: Path
) -> None:
    asked, denied = Tier1(model_config, tmp_path, BudgetConfig()).run(keeps=False)
    assert not denied
    assert total(asked, hard=True) == COUNT
    assert abs(total(asked, hard=False) - COUNT) < bound(COUNT)


def tier2(model_config: ModelConfig, folder: Path, queue: int) -> Tier2Pipeline:
    config = Tier2PipelineConfig(
        input=InputConfig(shape=SHAPE),
        model=model_config,
        batching=BatchingConfig(max_batch_size=BATCH, queue_size=queue),
    )
    made = Tier2Pipeline(
        name="meter", config=config, name_upstream="plant.full-1", rng=random.Random(1),
        metrics=NodeMetrics(CollectorRegistry()), wake=lambda: None,
    )  # fmt: skip
    made.slot.model = load_echo(folder)
    return made


def hard_samples(first: int, rng: random.Random) -> tuple[EscalatedSample, ...]:
    return tuple(
        EscalatedSample(number, f"id-{number}", "cam-01", 0.0, "low_confidence",
                        rng.random() < SHARE, 1.0)
        for number in range(first, first + BATCH)
    )  # fmt: skip


@pytest.mark.parametrize("trouble", ["too_late", "queue_full"])
def test_a_tier2_that_cannot_keep_up_lets_the_audited_stand_for_those_it_drops(
    model_config: ModelConfig, tmp_path: Path, trouble: str
) -> None:
    rng = random.Random(5)
    queue = BATCH if trouble == "queue_full" else 10_000
    pipeline = tier2(model_config, tmp_path, queue)
    recorded: list[EscalatedSample] = []
    rows = Tensor.of(np.array([UNSURE] * BATCH, np.float32))
    for number in range(BATCHES):
        now_s = 100.0 + number
        # Of every second moment, the samples come two at a time or are answered too late.
        for part in range(2):
            samples = hard_samples(2 * BATCH * number + BATCH * part, rng)
            message = Escalation(
                1, "tier1-a", "meter", "3", 500.0, 0, 0, samples, rows, rows, audit_share=SHARE
            )
            pipeline.admit(message, now_s)
        late_s = 0.6 if trouble == "too_late" and number % 2 else 0.0
        for _ in range(5):
            pipeline.run(now_s + late_s)
            outcome = pipeline.gate(now_s + late_s, reachable=False)
            if outcome is not None:
                recorded += (each.record.sample for each in outcome.records)
    count = 2 * BATCH * BATCHES
    assert len(recorded) < 0.7 * count
    assert abs(total(recorded, hard=True) - count) < bound(count)


def test_a_node_that_does_not_say_its_share_leaves_chances_as_they_are(
    model_config: ModelConfig, tmp_path: Path
) -> None:
    pipeline = tier2(model_config, tmp_path, 100)
    sample = EscalatedSample(1, "id-1", "cam-01", 0.0, "low_confidence", True, 1.0)
    row = Tensor.of(np.array([UNSURE], np.float32))
    pipeline.admit(Escalation(1, "tier1-a", "meter", "3", 500.0, 0, 0, (sample,), row, row), 100.0)
    pipeline.run(200.0)
    outcome = pipeline.gate(200.0, reachable=False)
    assert outcome is not None
    assert [each.record.sample.inclusion_probability for each in outcome.records] == [1.0]
