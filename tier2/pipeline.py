"""Tier-2's data path: admit → batch → infer → reply and record. No I/O, no clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.batcher import Batcher
from shared.errors import PayloadError
from shared.messages import (
    SCHEMA_VERSION,
    EscalatedSample,
    Escalation,
    Reply,
    TelemetryRecord,
    Tensor,
)
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.scores import Floats, well_formed
from shared.slot import Slot
from tier2.config import Tier2PipelineConfig

REMEMBERED = 50_000


@dataclass(frozen=True, slots=True)
class Admitted:
    """A question under way.

    Attributes:
        node: who asks.
        tier1_version: its model's version.
        sample: what is asked.
        input: float32 [...].
        tier1_probabilities: float32 [labels].
        due_s: nobody waits for the answer after this, monotonic.
    """

    node: str
    tier1_version: str
    sample: EscalatedSample
    input: Floats
    tier1_probabilities: Floats
    due_s: float

    @property
    def awaited(self) -> bool:
        """Whether somebody waits: a sample that was only audited has its answer already."""
        return self.sample.reason != "audit"


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a batch: a reply for each asking node, and a record of each sample."""

    replies: list[Reply]
    records: list[TelemetryRecord]


class Tier2Pipeline:
    """One pipeline's data path.

    Args:
        name: the pipeline.
        config: its configuration.
        metrics: what is counted.

    Attributes:
        slot: holds the model that serves.
    """

    def __init__(self, name: str, config: Tier2PipelineConfig, metrics: NodeMetrics) -> None:
        batching = config.batching
        self.name = name
        self.slot = Slot(name, metrics)
        self._config = config
        self._metrics = metrics
        self._batcher: Batcher[Admitted] = Batcher(
            batching.max_batch_size, batching.max_delay_ms / 1000, batching.queue_size
        )
        self._recent: OrderedDict[tuple[str, int], None] = OrderedDict()

    def admit(self, escalation: Escalation, now_s: float) -> int:
        """Takes a message of questions. What does not fit the queue is dropped and counted.

        Args:
            escalation: the message.
            now_s: monotonic.

        Returns:
            How many of them had not come before.

        Raises:
            PayloadError: the arrays do not fit the samples or this pipeline.
        """
        count, shape = len(escalation.samples), self._config.input.shape
        inputs = _floats(escalation.inputs, (count, *shape))
        scores = _floats(escalation.probabilities, (count, *escalation.probabilities.shape[1:2]))
        due_s = now_s + escalation.budget_ms / 1000
        new = 0
        for sample, row, score in zip(escalation.samples, inputs, scores, strict=True):
            if self._is_repeat(escalation.node, sample.correlation):
                continue
            new += 1
            item = Admitted(escalation.node, escalation.model_version, sample, row, score, due_s)
            if not self._batcher.add(item, now_s):
                self._metrics.drops.labels(reason="queue_full").inc()
        return new

    def infer(self, now_s: float) -> Answered | None:
        """Runs the next batch, if one is due and there is a model; else returns None."""
        model = self.slot.model
        taken = self._batcher.poll(now_s) if model is not None else []
        if not taken or model is None:
            return None
        # The audit is a uniform sample only as long as load drops none of it selectively.
        batch = [item for item in taken if item.due_s > now_s or item.sample.audit]
        self._metrics.drops.labels(reason="deadline").inc(len(taken) - len(batch))
        if not batch:
            return Answered([], [])
        probabilities = self.slot.probabilities(model, np.stack([item.input for item in batch]))
        sound = well_formed(probabilities)
        good = [
            (item, row) for item, row, ok in zip(batch, probabilities, sound, strict=True) if ok
        ]
        version = model.spec.version
        return Answered(
            self._replies([pair for pair in good if pair[0].due_s > now_s], model),
            [self._record(item, row, version) for item, row in good],
        )

    def due_s(self) -> float | None:
        """Returns when the next batch is due, monotonic, or None."""
        return self._batcher.due_s() if self.slot.model is not None else None

    def _is_repeat(self, node: str, correlation: int) -> bool:
        """Whether this question came before: QoS 1 may deliver a message twice."""
        key = (node, correlation)
        if key in self._recent:
            return True
        self._recent[key] = None
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        return False

    def _replies(self, good: Sequence[tuple[Admitted, Floats]], model: Model) -> list[Reply]:
        by_node: dict[str, list[tuple[Admitted, Floats]]] = {}
        for item, row in good:
            by_node.setdefault(item.node, []).append((item, row))
        return [
            Reply(
                SCHEMA_VERSION,
                node,
                self.name,
                model.spec.name,
                model.spec.version,
                tuple(item.sample.correlation for item, _ in answers),
                Tensor.of(np.stack([row for _, row in answers])),
            )
            for node, answers in by_node.items()
        ]

    def _record(self, item: Admitted, row: Floats, version: str) -> TelemetryRecord:
        leaves = {"all": True, "hard": item.awaited, "none": False}[self._config.uplink.inputs]
        return TelemetryRecord(
            item.sample,
            item.node,
            self.name,
            item.tier1_version,
            version,
            Tensor.of(item.tier1_probabilities),
            Tensor.of(row),
            Tensor.of(item.input) if leaves else None,
        )


def _floats(tensor: Tensor, shape: tuple[int, ...]) -> Floats:
    """Returns a tensor that must be float32 of a shape.

    Raises:
        PayloadError: it is not.
    """
    array = tensor.array()
    if array.dtype != np.float32 or array.shape != shape:
        problem = f"{array.dtype} of shape {array.shape} for float32 of shape {shape}"
        raise PayloadError("bad_escalation", problem)
    return array
