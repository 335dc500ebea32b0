"""From decided questions to replies and records. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from shared.messages import SCHEMA_VERSION, Escalation, Reply, TelemetryRecord, Tensor
from shared.scores import Floats
from tier2.admission import Admitted, LateMessage

MAX_REPLY_BYTES = 64 * 2**10
CORRELATION_BYTES = 9


class Final(NamedTuple):
    """A question with the scores that answer it.

    Attributes:
        question: the question.
        row: float32 [labels], well-formed.
        model: the channel or name of the deciding model, this node's or one further up.
        model_version: its version.
    """

    question: Admitted
    row: Floats
    model: str
    model_version: str


class Record(NamedTuple):
    """A record for the cloud, and the message of a backlog that it is of, if it is of one."""

    record: TelemetryRecord
    late: LateMessage | None = None


class Addressed(NamedTuple):
    """A reply and where it goes.

    Attributes:
        address: last level of its topic.
        reply: it.
        expiry_s: nobody waits for it any more after so long; None if somebody always does.
    """

    address: str
    reply: Reply
    expiry_s: float | None = None


class Outcome(msgspec.Struct, gc=False, eq=False):
    """What is to be done after a turn of a pipeline.

    Attributes:
        replies: to nodes that asked.
        records: for the cloud.
        escalations: messages for the node upstream.
    """

    replies: list[Addressed] = []
    records: list[Record] = []
    escalations: list[Escalation] = []


class Answering:
    """Writes a pipeline's replies and records.

    Args:
        pipeline: the pipeline.
        inputs: which inputs the cloud gets.
    """

    def __init__(self, pipeline: str, inputs: Literal["all", "hard", "none"]) -> None:
        self._pipeline = pipeline
        self._inputs = inputs

    def replies(self, finals: Sequence[Final], now_s: float) -> list[Addressed]:
        """Returns replies for each node and model, to those questions that still have time."""
        groups: dict[tuple[str, str, str], list[Final]] = {}
        for final in finals:
            question = final.question
            if question.late is None and question.due_s > now_s:
                key = (question.address, final.model, final.model_version)
                groups.setdefault(key, []).append(final)
        return [
            self._reply(part, now_s) for group in groups.values() for part in _within_bytes(group)
        ]

    def records(self, finals: Sequence[Final]) -> list[Record]:
        """Returns the records of those questions whose nodes do not keep them themselves."""
        return [
            Record(self._record(final), final.question.late)
            for final in finals
            if not final.question.recorded
        ]

    def confirmation(self, message: LateMessage) -> Addressed:
        """Returns what says that the records of a message of the backlog are on the disk."""
        count = len(message.correlations)
        nothing = Tensor("float32", (count, 0), b"")
        reply = Reply(
            SCHEMA_VERSION, message.node, self._pipeline, "", "", message.correlations, nothing
        )
        return Addressed(message.address, reply)

    def _reply(self, group: Sequence[Final], now_s: float) -> Addressed:
        first = group[0]
        reply = Reply(
            SCHEMA_VERSION,
            first.question.node,
            self._pipeline,
            first.model,
            first.model_version,
            tuple(final.question.sample.correlation for final in group),
            Tensor.of(np.stack([final.row for final in group])),
        )
        left_s = max(final.question.due_s for final in group) - now_s
        return Addressed(first.question.address, reply, left_s)

    def _record(self, final: Final) -> TelemetryRecord:
        question = final.question
        leaves = {"all": True, "hard": question.hard, "none": False}[self._inputs]
        return TelemetryRecord(
            question.sample,
            question.node,
            self._pipeline,
            question.tier1_version,
            final.model_version,
            Tensor.of(question.tier1_probabilities),
            Tensor.of(final.row),
            Tensor.of(question.row) if leaves else None,
            late=question.late is not None,
        )


def _within_bytes(group: Sequence[Final]) -> Iterator[Sequence[Final]]:
    """Cuts a group into replies that any broker takes."""
    size = max(1, MAX_REPLY_BYTES // (group[0].row.nbytes + CORRELATION_BYTES))
    for start in range(0, len(group), size):
        yield group[start : start + size]
