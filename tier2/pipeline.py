"""Tier-2's data path: admit → batch → infer → gate → reply and record, or ask. No I/O, no clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from shared.batcher import Batcher
from shared.cascade.audit import Audit
from shared.cascade.gate import decide
from shared.messages import Escalation, Reply
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.runner import Runner
from shared.scores import Scored
from shared.slot import Slot
from tier2.admission import Admission, Admitted
from tier2.answering import Addressed, Answering, Final, Outcome
from tier2.config import Tier2PipelineConfig
from tier2.late import LateQueue
from tier2.upstream import Asked, Upstream

MAX_LATE_BYTES = 16 * 2**20


class Tier2Pipeline:
    """One pipeline's data path.

    Args:
        name: the pipeline.
        config: its configuration.
        name_upstream: this node's name at the node above; used where there is one.
        rng: draws the audit, the first correlation number and the jitter.
        metrics: what is counted.
        wake: ends the loop's wait, from another thread.

    Attributes:
        slot: holds the model that serves.
    """

    def __init__(
        self,
        *,
        name: str,
        config: Tier2PipelineConfig,
        name_upstream: str,
        rng: random.Random,
        metrics: NodeMetrics,
        wake: Callable[[], None],
    ) -> None:
        batching = config.batching
        self.slot = Slot(name, metrics)
        self._config = config
        self._audit = Audit(config.escalation.audit_share, rng)
        self._metrics = metrics
        self._admission = Admission(config.layout)
        self._batcher: Batcher[Admitted] = Batcher(
            batching.max_batch_size, batching.max_delay_ms / 1000, batching.queue_size
        )
        self._late = LateQueue(MAX_LATE_BYTES)
        self._runner: Runner[Sequence[Admitted]] = Runner(self.slot, config.inference, wake)
        self._answering = Answering(name, config.uplink.inputs)
        self._upstream: Upstream | None = None
        if config.upstream is not None:
            self._upstream = Upstream(
                pipeline=name,
                name=name_upstream,
                config=config.escalation,
                rng=rng,
                metrics=metrics,
            )

    # Admit, batch, infer

    def admit(self, escalation: Escalation, now_s: float) -> int:
        """Takes a message of questions. What does not fit the queue is dropped and counted.

        Args:
            escalation: the message.
            now_s: monotonic.

        Returns:
            How many live questions of it had not come before.

        Raises:
            PayloadError: it does not fit this pipeline, or makes no sense.
        """
        if escalation.backlog:
            if not self._late.add(self._admission.late(escalation)):
                self._metrics.drops.labels(reason="backlog_busy").inc()
            return 0
        questions = self._admission.live(escalation, now_s)
        dropped = sum(not self._take(question, now_s) for question in questions)
        if dropped:
            self._metrics.drops.labels(reason="queue_full").inc(dropped)
        return len(questions)

    def run(self, now_s: float) -> None:
        """Hands the next live batch to the model, if one is due and the model is free."""
        while self._is_free:
            taken = self._batcher.poll(now_s)
            if not taken:
                return
            # The audit is a uniform sample only as long as load drops none of it selectively.
            batch = [
                each if each.due_s > now_s else each.by_audit()
                for each in taken
                if each.due_s > now_s or each.sample.audit
            ]
            if len(batch) < len(taken):
                self._metrics.drops.labels(reason="deadline").inc(len(taken) - len(batch))
            if batch:
                self._start(batch)

    def run_late(self) -> None:
        """Hands a batch of the backlog to the model, if nothing live waits and the model is free.

        Called once a turn, so that what comes meanwhile waits for one such batch at most.
        """
        if self._is_free and not self._batcher and self._late:
            self._start(self._late.take(self._config.batching.max_batch_size))

    # Gate, reply, ask

    def gate(self, now_s: float, *, reachable: bool) -> Outcome | None:
        """Decides on the batch that the model is done with.

        Args:
            now_s: monotonic.
            reachable: whether a question to the node above would leave this one.

        Returns:
            What came of it; None if none is done.
        """
        finished = self._runner.finished()
        if not finished:
            return None
        finals: list[Final] = []
        escalations: list[Escalation] = []
        for batch, model, scored in finished:
            asked = self._wanted(batch, model, scored)
            unasked = [row for row in range(len(batch)) if row not in asked or asked[row].accepted]
            finals += _finals(batch, scored, model, unasked)
            if asked and self._upstream is not None:
                messages, refused = self._upstream.ask(
                    list(asked.values()), now_s, reachable=reachable
                )
                escalations += messages
                finals += _own(refused)
            self._late.done(batch, scored.sound)
        return self._outcome(finals, now_s, escalations)

    def on_reply(self, reply: Reply, now_s: float) -> Outcome:
        """Takes answers from above.

        One that comes after this node has answered by itself is counted and no more: the node that
        asked takes one answer to a question, and the record of it is written.

        Raises:
            PayloadError: the scores are not those of the samples that it names.
        """
        answers = self._upstream.on_reply(reply, now_s) if self._upstream is not None else []
        finals = [
            Final(asked.question, row, reply.model, reply.model_version)
            for asked, row in answers
            if not asked.accepted
        ]
        return self._outcome(finals, now_s)

    def expire(self, now_s: float) -> Outcome:
        """Answers by itself what the node above left unanswered."""
        missed = self._upstream.expired(now_s) if self._upstream is not None else []
        return self._outcome(_own(missed), now_s)

    def charge(self, escalation: Escalation, message_bytes: int) -> None:
        """Takes a message that was sent to the node above from the budget, by its size."""
        if self._upstream is not None:
            self._upstream.charge(escalation, message_bytes)

    def withdraw(self, escalation: Escalation, now_s: float) -> Outcome:
        """Answers by itself what the link did not take."""
        back = self._upstream.withdraw(escalation) if self._upstream is not None else []
        return self._outcome(_own(back), now_s)

    # The backlog of other nodes

    @property
    def has_settled(self) -> bool:
        """Whether the model is done with messages of a backlog that are not confirmed yet."""
        return bool(self._late.settled)

    def confirm(self) -> list[Addressed]:
        """Returns the confirmations of those of which nothing was lost.

        Called when all that came of them is on the disk, as far as it was not thrown away.
        """
        return [self._answering.confirmation(message) for message in self._late.confirm()]

    # Times

    def due_s(self, now_s: float) -> float | None:
        """Returns when something is due next, monotonic, or None."""
        due = []
        if self._is_free:
            due = [self._batcher.due_s() if self._batcher or not self._late else now_s]
        if self._upstream is not None:
            due.append(self._upstream.due_s())
        return min((due_s for due_s in due if due_s is not None), default=None)

    def close(self) -> None:
        """Ends the thread of the model, if it has one."""
        self._runner.close()

    # Parts

    @property
    def _is_free(self) -> bool:
        return self.slot.model is not None and self._runner.idle

    def _take(self, question: Admitted, now_s: float) -> bool:
        """Queues a question. What the audit drew finds room in a full queue, too."""
        if self._batcher.add(question, now_s):
            return True
        spare = self._config.batching.queue_size
        return question.sample.audit and self._batcher.add(question.by_audit(), now_s, spare=spare)

    def _start(self, batch: Sequence[Admitted]) -> None:
        self._runner.start(np.stack([question.row for question in batch]), batch)

    def _wanted(self, batch: Sequence[Admitted], model: Model, scored: Scored) -> dict[int, Asked]:
        """Returns what the node above is to see, by its place in the batch."""
        upstream = self._config.upstream
        if upstream is None:
            return {}
        own_threshold = model.spec.calibration.threshold
        decisions = decide(
            scored,
            own_threshold if upstream.threshold is None else upstream.threshold,
            self._audit.draw(len(batch)),
        )
        unsure = len(batch) - int(np.count_nonzero(decisions.accepted))
        self.slot.count_gate(model, len(batch), unsure)
        return {
            row: Asked(
                batch[row],
                scored.probabilities[row],
                int(decisions.labels[row]),
                model.spec,
                decisions.reason(row),
                row in decisions.audited,
            )
            for row in decisions.asked()
            if batch[row].late is None
        }

    def _outcome(
        self, finals: Sequence[Final], now_s: float, escalations: Sequence[Escalation] = ()
    ) -> Outcome:
        return Outcome(
            self._answering.replies(finals, now_s),
            self._answering.records(finals),
            list(escalations),
        )


def _finals(
    batch: Sequence[Admitted], scored: Scored, model: Model, rows: Sequence[int]
) -> list[Final]:
    """Returns this node's own answers; malformed scores are none."""
    sound = scored.sound
    spec = model.spec
    return [
        Final(batch[row], scored.probabilities[row], spec.name, spec.version)
        for row in rows
        if sound is None or sound[row]
    ]


def _own(asked: Sequence[Asked]) -> list[Final]:
    """Returns this node's own answers to what it asked and got no answer to, as far as it has any.

    What its own audit drew has its answer.
    """
    return [
        Final(each.question, each.row, each.spec.name, each.spec.version)
        for each in asked
        if not each.accepted and np.isfinite(each.row).all()
    ]
