"""The cascade on tier-1: admit → batch → infer → gate → answer or ask. No I/O, no clock."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from shared.batcher import Batcher
from shared.cascade.escalations import Escalations
from shared.cascade.gate import Decision, decide
from shared.errors import PayloadError
from shared.messages import (
    SCHEMA_VERSION,
    DecidedBy,
    EscalatedSample,
    Escalation,
    Prediction,
    Reason,
    Reply,
    Tensor,
)
from shared.metrics import NodeMetrics
from shared.model import ModelSpec
from shared.mqtt.message import Message
from shared.scores import Floats, well_formed
from shared.slot import Slot
from tier1.config import Tier1PipelineConfig
from tier1.samples import DecodedSample


@dataclass(frozen=True, slots=True)
class Received:
    """A sample on this node.

    Attributes:
        sample: what it is.
        sensor: who sent it.
        message: how it came; acknowledged when it is answered.
        received_s: when, monotonic.
    """

    sample: DecodedSample
    sensor: str
    message: Message
    received_s: float


@dataclass(frozen=True, slots=True)
class Question:
    """A sample that tier-2 was asked about, with what tier-1 thought of it."""

    received: Received
    decision: Decision
    spec: ModelSpec
    probabilities: Floats


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who decided what, and why."""

    probabilities: Floats
    label: int
    confidence: float
    decided_by: DecidedBy
    reason: Reason
    model: str
    model_version: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A prediction to publish, and the sample's message to acknowledge after it.

    ``message`` is None for a correction: its sample was acknowledged with the first answer.
    """

    prediction: Prediction
    message: Message | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a batch: answers to publish, and at most one message of questions."""

    answers: list[Answer]
    escalation: Escalation | None


class Tier1Pipeline:
    """One pipeline's data path.

    Args:
        name: the pipeline.
        node: this node's name.
        config: its configuration.
        rng: draws the audit and the first correlation number.
        metrics: what is counted.

    Attributes:
        slot: holds the model that serves.
    """

    def __init__(
        self,
        name: str,
        node: str,
        config: Tier1PipelineConfig,
        rng: np.random.Generator,
        metrics: NodeMetrics,
    ) -> None:
        batching = config.batching
        self.name = name
        self.slot = Slot(name, metrics)
        self._node = node
        self._config = config
        self._rng = rng
        self._metrics = metrics
        self._batcher: Batcher[Received] = Batcher(
            batching.max_batch_size, batching.max_delay_ms / 1000, batching.queue_size
        )
        self._escalations: Escalations[Question] = Escalations(config.escalation.deadline_ms / 1000)
        # A random start, so that an answer to the question of an earlier life fits none of this.
        self._correlations = itertools.count(int(rng.integers(2**62)))
        self._seen = 0
        self._unsure = 0

    def admit(self, received: Received) -> None:
        """Queues a sample for the model.

        Raises:
            PayloadError: the queue is full.
        """
        if not self._batcher.add(received, received.received_s):
            size = self._config.batching.queue_size
            raise PayloadError("queue_full", f"{size} samples wait already", "send more slowly")

    def infer(self, now_s: float) -> Outcome:
        """Runs the next batch, if one is due and there is a model."""
        model = self.slot.model
        batch = self._batcher.poll(now_s) if model is not None else []
        if not batch or model is None:
            return Outcome([], None)
        inputs = np.stack([received.sample.features for received in batch])
        probabilities = self.slot.probabilities(model, inputs)
        decisions = decide(
            probabilities,
            model.spec.calibration.threshold,
            self._config.escalation.audit_share,
            self._rng.random(len(batch)),
        )
        questions = [
            Question(received, decision, model.spec, row)
            for received, decision, row in zip(batch, decisions, probabilities, strict=True)
        ]
        answers = [
            self._own_answer(question, "tier1", question.decision.reason, now_s)
            for question in questions
            if question.decision.accepted
        ]
        self._seen += len(questions)
        self._unsure += len(questions) - len(answers)
        return Outcome(answers, self._escalate(questions, model.spec, now_s))

    def on_reply(self, reply: Reply, now_s: float) -> list[Answer]:
        """Takes tier-2's answers.

        Args:
            reply: the message.
            now_s: monotonic.

        Returns:
            Final answers to what still waited, corrections to what did not.

        Raises:
            PayloadError: the scores are not those of the samples that it names.
        """
        rows = reply.probabilities.array()
        if rows.ndim != 2 or len(rows) != len(reply.correlations):
            raise PayloadError(
                "bad_reply", f"{rows.shape} scores for {len(reply.correlations)} ids"
            )
        sound = well_formed(rows)
        answers = []
        for correlation, row, is_sound in zip(reply.correlations, rows, sound, strict=True):
            answer = self._on_row(correlation, row, bool(is_sound), reply, now_s)
            if answer is not None:
                answers.append(answer)
        return answers

    def expire(self, now_s: float) -> list[Answer]:
        """Answers by itself what tier-2 left unanswered past the deadline."""
        answers = []
        for question in self._escalations.expired(now_s):
            self._metrics.escalations.labels(outcome="missed").inc()
            if not question.decision.accepted:
                answers.append(self._own_answer(question, "fallback", "deadline", now_s))
        return answers

    def due_s(self) -> float | None:
        """Returns when something is due next, monotonic, or None."""
        batch_due_s = self._batcher.due_s() if self.slot.model is not None else None
        return min(
            (due_s for due_s in (batch_due_s, self._escalations.due_s()) if due_s is not None),
            default=None,
        )

    def _escalate(
        self, questions: Sequence[Question], spec: ModelSpec, now_s: float
    ) -> Escalation | None:
        asked = [question for question in questions if question.decision.asks_tier2]
        if not asked:
            return None
        seen, unsure = self._seen, self._unsure
        self._seen = self._unsure = 0
        self._metrics.escalations.labels(outcome="asked").inc(len(asked))
        return Escalation(
            SCHEMA_VERSION,
            self._node,
            self.name,
            spec.version,
            self._config.escalation.deadline_ms,
            seen,
            unsure,
            tuple(self._ask(question, now_s) for question in asked),
            Tensor.of(np.stack([question.received.sample.features for question in asked])),
            Tensor.of(np.stack([question.probabilities for question in asked])),
        )

    def _ask(self, question: Question, now_s: float) -> EscalatedSample:
        correlation = next(self._correlations)
        self._escalations.ask(correlation, question, now_s)
        decision, sample = question.decision, question.received.sample
        return EscalatedSample(
            correlation,
            sample.id,
            question.received.sensor,
            sample.timestamp,
            decision.reason,
            decision.audit,
            decision.inclusion_probability,
        )

    def _on_row(
        self, correlation: int, row: Floats, sound: bool, reply: Reply, now_s: float
    ) -> Answer | None:
        asked = self._escalations.asked(correlation)
        if asked is None or not sound or len(row) != len(asked.spec.labels):
            # The question stays: it gets a usable answer, or its deadline.
            self._metrics.drops.labels(reason="reply_not_usable").inc()
            return None
        in_time = self._escalations.answered(correlation) is not None
        if not in_time:
            self._escalations.answered_late(correlation)
        self._metrics.escalations.labels(outcome="answered" if in_time else "late").inc()
        self._count_agreement(asked, row)
        if asked.decision.accepted:
            return None
        return self._tier2_answer(asked, row, reply, now_s, correction=not in_time)

    def _count_agreement(self, question: Question, row: Floats) -> None:
        kind = "audit" if question.decision.accepted else "hard"
        agrees = str(int(row.argmax()) == question.decision.label).lower()
        self._metrics.agreement.labels(kind=kind, agrees=agrees).inc()

    def _own_answer(
        self, question: Question, decided_by: DecidedBy, reason: Reason, now_s: float
    ) -> Answer:
        spec, decision = question.spec, question.decision
        verdict = Verdict(
            question.probabilities, decision.label, decision.confidence, decided_by, reason,
            spec.name, spec.version,
        )  # fmt: skip
        return Answer(self._prediction(question, verdict, now_s), question.received.message)

    def _tier2_answer(
        self, question: Question, row: Floats, reply: Reply, now_s: float, *, correction: bool
    ) -> Answer:
        label = int(row.argmax())
        verdict = Verdict(
            row, label, float(row[label]), "tier2", question.decision.reason,
            reply.model, reply.model_version,
        )  # fmt: skip
        prediction = self._prediction(question, verdict, now_s)
        if not correction:
            return Answer(prediction, question.received.message)
        return Answer(msgspec.structs.replace(prediction, supersedes=prediction.id), None)

    def _prediction(self, question: Question, verdict: Verdict, now_s: float) -> Prediction:
        received, labels = question.received, question.spec.labels
        shown: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
        if self._config.probabilities:
            shown = dict(zip(labels, map(float, verdict.probabilities), strict=True))
        return Prediction(
            id=received.sample.id,
            device_id=received.sensor,
            timestamp=received.sample.timestamp,
            prediction=labels[verdict.label],
            confidence=round(verdict.confidence, 6),
            decided_by=verdict.decided_by,
            reason=verdict.reason,
            model=verdict.model,
            model_version=verdict.model_version,
            latency_ms=round((now_s - received.received_s) * 1000, 3),
            node=self._node,
            probabilities=shown,
        )
