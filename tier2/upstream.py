"""What this node asks the one above it: the cascade goes on. Pure: time and randomness come in."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from shared.cascade.breaker import State
from shared.cascade.config import EscalationConfig
from shared.cascade.escalator import Escalator
from shared.cascade.gate import inclusion_probability
from shared.cascade.replies import match_reply
from shared.messages import (
    SCHEMA_VERSION,
    EscalatedSample,
    Escalation,
    Reason,
    Reply,
    Tensor,
)
from shared.metrics import NodeMetrics
from shared.model_spec import ModelSpec
from shared.scores import Floats
from tier2.admission import Admitted

WAY_BACK = 0.1
"""Share of the time that is left which is kept for this node's own reply."""
MIN_LEFT_S = 0.005


class Asked(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A question of this node.

    Attributes:
        question: what this node was asked.
        row: its own scores, float32 [labels]; NaN where malformed.
        label: index of its own label.
        spec: of its model.
        reason: why it asks.
        audit: whether its own audit drew the sample.
    """

    question: Admitted
    row: Floats
    label: int
    spec: ModelSpec
    reason: Reason
    audit: bool

    @property
    def accepted(self) -> bool:
        """Whether this node has answered already, and only looks at the answer as well."""
        return self.reason == "audit"

    @property
    def awaited(self) -> bool:
        """Whether the node that asked this one still waits."""
        return self.question.hard and not self.accepted

    def left_s(self, now_s: float) -> float:
        """Returns how long it will wait."""
        return self.question.due_s - now_s

    def apart(self) -> Asked:
        """Returns it in memory of its own: its arrays are parts of a message's and of a batch's."""
        question = msgspec.structs.replace(
            self.question,
            row=self.question.row.copy(),
            tier1_probabilities=self.question.tier1_probabilities.copy(),
        )
        return msgspec.structs.replace(self, question=question, row=self.row.copy())

    def late(self) -> Late:
        """Returns what is kept of it past its deadline."""
        return Late(self.label, self.spec, self.accepted)


class Late(msgspec.Struct, frozen=True, gc=False):
    """What a late answer needs of its question, to be counted.

    Attributes:
        label: index of this node's own label.
        spec: of its model.
        accepted: whether this node only looked at the answer as well.
    """

    label: int
    spec: ModelSpec
    accepted: bool


class Numbered(NamedTuple):
    """A question with the number that its answer names it by.

    Attributes:
        correlation: the number.
        due_s: when its deadline is, monotonic.
        asked: the question.
    """

    correlation: int
    due_s: float
    asked: Asked


class Answered(NamedTuple):
    """An answer from upstream, to a question that this node has not answered by itself meanwhile.

    Attributes:
        asked: the question.
        row: float32 [labels], well-formed.
    """

    asked: Asked
    row: Floats


class Upstream:
    """Asks the node above within the time that the asking node has left.

    Args:
        pipeline: the pipeline.
        name: this node's name up there.
        config: how it is asked.
        rng: draws the jitter and the first correlation number.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        pipeline: str,
        name: str,
        config: EscalationConfig,
        rng: random.Random,
        metrics: NodeMetrics,
    ) -> None:
        self._pipeline = pipeline
        self._name = name
        self._config = config
        self._metrics = metrics
        self._escalator: Escalator[Asked, Late] = Escalator(config, rng, Asked.late)
        metrics.breaker_open.labels(pipeline=pipeline).set_function(
            lambda: self._escalator.state is not State.CLOSED
        )
        self._correlations = itertools.count(rng.getrandbits(62))

    def ask(
        self, wanted: Sequence[Asked], now_s: float, *, reachable: bool
    ) -> tuple[list[Escalation], list[Asked]]:
        """Writes the questions that may be asked now.

        Args:
            wanted: questions of one model, at least one.
            now_s: monotonic.
            reachable: whether a message would leave this node.

        Returns:
            Messages to send, and the questions that are not in them.
        """
        hopeful: list[Asked] = []
        refused: list[Asked] = []
        for each in wanted:
            is_too_late = each.awaited and each.left_s(now_s) < MIN_LEFT_S
            (refused if is_too_late else hopeful).append(each)
        sample_bytes = wanted[0].question.row.nbytes + wanted[0].row.nbytes
        denials = self._escalator.grant(
            [each.audit for each in hopeful], sample_bytes, reachable=reachable, now_s=now_s
        ).denials
        granted: list[Numbered] = []
        for each, denial in zip(hopeful, denials, strict=True):
            if denial is None:
                granted.append(self._number(each.apart(), now_s))
            else:
                refused.append(each)
        self._metrics.escalations.labels(outcome="asked").inc(len(granted))
        size = self._escalator.samples_a_message(sample_bytes)
        return [self._message(part, now_s) for part in _parts(granted, size, now_s)], refused

    def on_reply(self, reply: Reply, now_s: float) -> list[Answered]:
        """Takes answers. What fits no question, is malformed or comes late is only counted.

        Raises:
            PayloadError: the scores are not those of the samples that it names.
        """
        return [
            Answered(asked, row)
            for asked, row in match_reply(reply, self._escalator, self._metrics, now_s)
            if isinstance(asked, Asked)
        ]

    def expired(self, now_s: float) -> list[Asked]:
        """Returns the questions that got no answer in time, once each."""
        missed = self._escalator.expired(now_s)
        if missed:
            self._metrics.escalations.labels(outcome="missed").inc(len(missed))
        return missed

    def charge(self, escalation: Escalation, message_bytes: int) -> None:
        """Takes a message that was sent from the budget, by its size."""
        self._escalator.charge(escalation, message_bytes)

    def withdraw(self, escalation: Escalation) -> list[Asked]:
        """Takes back the questions of a message that was not sent."""
        return self._escalator.withdraw(sample.correlation for sample in escalation.samples)

    def due_s(self) -> float | None:
        """Returns when the next deadline passes, monotonic, or None if nothing waits."""
        return self._escalator.due_s()

    def _number(self, asked: Asked, now_s: float) -> Numbered:
        correlation = next(self._correlations)
        latest_s = now_s + (1 - WAY_BACK) * asked.left_s(now_s) if asked.awaited else None
        due_s = self._escalator.ask(correlation, asked, now_s, latest_s)
        return Numbered(correlation, due_s, asked)

    def _message(self, part: Sequence[Numbered], now_s: float) -> Escalation:
        return Escalation(
            SCHEMA_VERSION,
            self._name,
            self._pipeline,
            part[0].asked.spec.version,
            budget_ms=1000 * (min(each.due_s for each in part) - now_s),
            seen=0,
            unsure=0,
            samples=tuple(map(self._sample, part)),
            inputs=Tensor.of(np.stack([each.asked.question.row for each in part])),
            probabilities=Tensor.of(np.stack([each.asked.row for each in part])),
            recorded=True,
        )

    def _sample(self, numbered: Numbered) -> EscalatedSample:
        asked = numbered.asked
        return msgspec.structs.replace(
            asked.question.sample,
            correlation=numbered.correlation,
            reason=asked.reason,
            audit=asked.audit,
            inclusion_probability=inclusion_probability(
                by_audit=asked.accepted, audit_share=self._config.audit_share
            ),
        )


def _parts(granted: Sequence[Numbered], size: int, now_s: float) -> Iterable[list[Numbered]]:
    """Returns what travels together: at most ``size`` questions, the time left within a factor 2.

    A message has the time of its most urgent question: this way none loses more than half of its.
    """
    groups: dict[int, list[Numbered]] = {}
    for each in granted:
        groups.setdefault(math.frexp(each.due_s - now_s)[1], []).append(each)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]
