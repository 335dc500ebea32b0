"""The cascade on tier-1: admit → batch → infer → gate → answer or ask. No I/O, no clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec
import numpy as np

from shared.batcher import Batcher
from shared.cascade.audit import Audit
from shared.cascade.breaker import State
from shared.cascade.escalator import Escalator
from shared.cascade.gate import decide
from shared.cascade.replies import match_reply
from shared.errors import PayloadError
from shared.messages import EscalatedSample, Escalation, Reason, Reply
from shared.metrics import NodeMetrics
from shared.runner import Runner
from shared.scores import Floats
from shared.slot import Slot
from tier1.answers import Answer, Answers, Late, Pack, Verdict
from tier1.batch import Judged, Rows, refuse_unfinite, stack
from tier1.config import Tier1PipelineConfig
from tier1.deliveries import NO_ROWS, Taken
from tier1.questions import Question, Questionnaire
from tier1.watch import Watch

Refusal = tuple[Taken, PayloadError]


@dataclass(slots=True)
class Outcome:
    """What came of a batch.

    Attributes:
        answers: to publish.
        escalations: messages of questions to send.
        unasked: what cannot be asked now, by batch: training material for later.
    """

    answers: list[Answer] = field(default_factory=list)
    escalations: list[Escalation] = field(default_factory=list)
    unasked: list[Sequence[Question]] = field(default_factory=list)


class Tier1Pipeline:
    """One pipeline's data path.

    Args:
        name: the pipeline.
        node: this node's name.
        reply_to: last level of the topic that replies come on.
        config: its configuration.
        rng: draws the audit and the first correlation number.
        metrics: what is counted.
        wake: ends the loop's wait, from another thread.

    Attributes:
        slot: holds the model that serves.
        watch: whether that one has drifted, and its certificate holds.
    """

    def __init__(
        self,
        *,
        name: str,
        node: str,
        reply_to: str,
        config: Tier1PipelineConfig,
        rng: random.Random,
        metrics: NodeMetrics,
        wake: Callable[[], None],
    ) -> None:
        batching, escalation = config.batching, config.escalation
        self.name = name
        self.slot = Slot(name, metrics)
        self.watch = Watch(config.drift, self.slot, metrics)
        self._audit = Audit(escalation.audit_share, rng)
        self._metrics = metrics
        self._batcher: Batcher[Taken] = Batcher(
            batching.max_batch_size, batching.max_delay_ms / 1000, batching.queue_size
        )
        self._runner: Runner[tuple[Sequence[Taken], Rows]] = Runner(
            self.slot, config.inference, wake
        )
        self._escalator: Escalator[Question, Late] = Escalator(escalation, rng, Question.late)
        metrics.breaker_open.labels(pipeline=name).set_function(
            lambda: self._escalator.state is not State.CLOSED
        )
        self._questionnaire = Questionnaire(
            pipeline=name,
            node=node,
            reply_to=reply_to,
            deadline_ms=escalation.deadline_ms,
            audit_share=escalation.audit_share,
            first_correlation=rng.getrandbits(62),
        )
        self._answers = Answers(node, shows_probabilities=config.probabilities)
        self._shape, self._dtype = config.layout.shape, config.layout.dtype

    # Admit, batch, infer

    def admit(self, taken: Taken) -> bool:
        """Queues a message for the model; returns False if the queue is full."""
        return self._batcher.add(taken, taken.received_s, taken.size)

    def drop_oldest(self) -> Taken | None:
        """Takes the message out of the queue that has waited longest; None if none waits."""
        return self._batcher.drop_oldest()

    @property
    def breaker(self) -> State:
        """Whether tier-2 is asked, or left alone because it does not answer."""
        return self._escalator.state

    @property
    def asks(self) -> bool:
        """Whether tier-2 owes an answer."""
        return self._escalator.waiting > 0

    @property
    def waiting(self) -> int:
        """How many samples wait for the model."""
        return len(self._batcher)

    def run(self, now_s: float) -> Sequence[Refusal]:
        """Hands the next batch to the model, if one is due and the model is free.

        Returns:
            Messages of the batch that no model can take, and why.
        """
        if self.slot.model is None or not self._runner.idle:
            return ()
        batch: Sequence[Taken] = self._batcher.poll(now_s)
        if not batch:
            return ()
        rows = stack(batch, self._shape, self._dtype)
        for taken in batch:
            taken.rows = NO_ROWS  # a message waits for its acknowledgement with its numbers else
        refused: list[Refusal] = []
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            batch, rows, refused = refuse_unfinite(batch, rows)
        if batch:
            self._runner.start(rows, (batch, rows))
        return refused

    # Gate, answer, ask

    def gate(self, now_s: float, *, reachable: bool, keeps: bool = True) -> Outcome | None:
        """Decides on the batches that the model is done with.

        Args:
            now_s: monotonic.
            reachable: whether a question would leave this node.
            keeps: whether what is denied is kept for later, so that tier-2 sees it after all.

        Returns:
            What came of them; None if none is done.
        """
        finished = self._runner.finished()
        if not finished:
            return None
        outcome = Outcome()
        for (batch, rows), model, scored in finished:
            decisions = decide(scored, self.watch.threshold(model), self._audit.draw(len(rows)))
            judged = Judged.of(batch, rows, model.spec, scored, decisions)
            packs = self._answer_the_sure(judged, outcome, now_s)
            unsure = judged.unsure
            drift_alarms = self.watch.gated(model, len(rows), unsure, judged.confidence)
            self._questionnaire.count(len(rows), unsure, drift_alarms)
            self.slot.count_gate(model, len(rows), unsure)
            if judged.asked:
                questions = list(judged.questions(packs))
                self._ask(questions, outcome, now_s, reachable=reachable, keeps=keeps)
        return outcome

    def withdraw(self, escalation: Escalation, now_s: float) -> Outcome:
        """Answers by itself what the link did not take."""
        self._questionnaire.count(escalation.seen, escalation.unsure, escalation.drift_alarms)
        outcome = Outcome()
        numbers = [sample.correlation for sample in escalation.samples]
        withdrawn = self._escalator.withdraw(numbers)
        self._metrics.escalations.labels(outcome="withdrawn").inc(len(withdrawn))
        for question in withdrawn:
            self.slot.count_lost(question.spec)
            outcome.answers += self._fall_back(question, "unreachable", now_s)
        if withdrawn:
            outcome.unasked.append(withdrawn)
        return outcome

    def samples(self, questions: Sequence[Question]) -> list[EscalatedSample]:
        """Returns what a message says of questions that have no number yet."""
        return [self._questionnaire.sample(0, question) for question in questions]

    def charge(self, message: Escalation, message_bytes: int) -> None:
        """Takes a message that was sent from the budget, by its size."""
        self._escalator.charge(message, message_bytes)

    def _answer_the_sure(self, judged: Judged, outcome: Outcome, now_s: float) -> dict[int, Pack]:
        """Answers what needs nobody else; returns the packs that wait, by place in the batch."""
        answers, accepted, waiting = outcome.answers, judged.accepted, {}
        row = 0
        for place, taken in enumerate(judged.batch):
            if not taken.is_pack:
                if accepted[row]:
                    answers.append(self._answers.single(taken, judged.verdict(row), now_s))
            else:
                pack = judged.pack(taken, row)
                if pack.open:
                    waiting[place] = pack
                else:
                    answers.append(self._answers.pack(pack, now_s))
            row += taken.size
        return waiting

    def _ask(
        self,
        questions: Sequence[Question],
        outcome: Outcome,
        now_s: float,
        *,
        reachable: bool,
        keeps: bool,
    ) -> None:
        audits = [question.audit for question in questions]
        first = questions[0]
        sample_bytes = first.features.nbytes + first.own.probabilities.nbytes
        denials, by_audit = self._escalator.grant(
            audits, sample_bytes, reachable=reachable, now_s=now_s
        )
        if not keeps:
            for place in by_audit:
                questions[place].only_audited = True
        granted, denied = [], []
        for question, denial in zip(questions, denials, strict=True):
            if denial is None:
                granted.append(question)
            else:
                denied.append(question)
                outcome.answers += self._fall_back(question, denial, now_s)
        if denied:
            outcome.unasked.append(denied)
        self._metrics.escalations.labels(outcome="asked").inc(len(granted))
        self.slot.count_asked(first.spec, len(granted))
        size = self._escalator.samples_a_message(sample_bytes)
        for start in range(0, len(granted), size):
            outcome.escalations.append(self._write(granted[start : start + size], now_s))

    def _write(self, questions: Sequence[Question], now_s: float) -> Escalation:
        correlations = list(islice(self._questionnaire.correlations(), len(questions)))
        for correlation, question in zip(correlations, questions, strict=True):
            self._escalator.ask(correlation, question, now_s)
        info = self.slot.info
        certificate = "none" if info is None else info.certificate
        return self._questionnaire.message(correlations, questions, certificate)

    # Replies and deadlines

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
        answers: list[Answer] = []
        for asked, row in match_reply(reply, self._escalator, self._metrics, now_s):
            if asked.accepted:
                # Accepted and asked all the same: only the audit does that.
                agrees = int(row.argmax()) == asked.label
                self.watch.audited(asked.spec, asked.certainty, agrees=agrees)
            else:
                answers += self._take(asked, row, reply, now_s)
        return answers

    def expire(self, now_s: float) -> list[Answer]:
        """Answers by itself what tier-2 left unanswered past the deadline."""
        missed = self._escalator.expired(now_s)
        if not missed:
            return []
        self._metrics.escalations.labels(outcome="missed").inc(len(missed))
        answers: list[Answer] = []
        for question in missed:
            self.slot.count_lost(question.spec)
            answers += self._fall_back(question, "deadline", now_s)
        return answers

    def due_s(self) -> float | None:
        """Returns when something is due next, monotonic, or None."""
        runs = self.slot.model is not None and self._runner.idle
        batch_due_s = self._batcher.due_s() if runs else None
        return min(
            (due_s for due_s in (batch_due_s, self._escalator.due_s()) if due_s is not None),
            default=None,
        )

    def quiet(self, now_s: float) -> bool:
        """Whether it is the time for the backlog: tier-2 may be asked, and nobody waits for it."""
        return self._escalator.quiet(now_s)

    def close(self) -> None:
        """Ends the thread of the model, if it has one."""
        self._runner.close()

    def _take(
        self, asked: Question | Late, row: Floats, reply: Reply, now_s: float
    ) -> list[Answer]:
        """Answers by what tier-2 says, or corrects what tier-1 has said meanwhile."""
        labels, label = asked.spec.labels, int(row.argmax())
        verdict = Verdict(
            labels[label], round(float(row[label]), 6), "tier2", asked.reason,
            reply.model, reply.model_version, row, labels,
        )  # fmt: skip
        if isinstance(asked, Question):
            return self._settle(asked, verdict, now_s)
        return [self._answers.correction(asked, verdict, now_s)]

    def _fall_back(self, question: Question, reason: Reason, now_s: float) -> list[Answer]:
        """Answers what tier-2 does not, unless it has its answer already."""
        if question.accepted:
            return []
        return self._settle(question, msgspec.structs.replace(question.own, reason=reason), now_s)

    def _settle(self, question: Question, verdict: Verdict, now_s: float) -> list[Answer]:
        """Answers a sample, or its pack if that was the last that it waited for."""
        pack = question.pack
        if pack is None:
            return [self._answers.single(question.taken, verdict, now_s)]
        return [self._answers.pack(pack, now_s)] if pack.decide(question.row, verdict) else []
