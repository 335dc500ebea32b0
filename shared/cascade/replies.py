"""Answers of the next tier, held against the questions that they name. Pure but for the counts."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np

from shared.cascade.escalator import Escalator
from shared.errors import PayloadError
from shared.messages import Reply
from shared.metrics import NodeMetrics
from shared.model_spec import ModelSpec
from shared.scores import Floats, well_formed


class Answerable(Protocol):
    """What is known of a question, waiting or late."""

    @property
    def spec(self) -> ModelSpec:
        """Of the model that asks."""

    @property
    def label(self) -> int:
        """Index of its own label."""

    @property
    def accepted(self) -> bool:
        """Whether this tier has answered already, and only looks at the answer as well."""


Question = TypeVar("Question", bound=Answerable)
Late = TypeVar("Late", bound=Answerable)


def match_reply(
    reply: Reply, escalator: Escalator[Question, Late], metrics: NodeMetrics, now_s: float
) -> list[tuple[Question | Late, Floats]]:
    """Takes the answers of a reply, each once.

    What fits no question or is malformed is counted, and its question stays: it gets a usable
    answer, or its deadline.

    Args:
        reply: the message.
        escalator: knows the questions.
        metrics: what is counted.
        now_s: monotonic.

    Returns:
        Questions, waiting or late, with their answer: float32 [labels], well-formed.

    Raises:
        PayloadError: the scores are not those of the samples that it names.
    """
    rows = reply.probabilities.array()
    if rows.dtype != np.float32 or rows.ndim != 2 or len(rows) != len(reply.correlations):
        problem = f"{rows.shape} scores for {len(reply.correlations)} questions"
        raise PayloadError("bad_reply", problem)
    matched: list[tuple[Question | Late, Floats]] = []
    sound = well_formed(rows).tolist()
    for correlation, row, is_sound in zip(reply.correlations, rows, sound, strict=True):
        asked = escalator.asked(correlation)
        if asked is None or not is_sound or len(row) != len(asked.spec.labels):
            metrics.drops.labels(reason="reply_not_usable").inc()
            continue
        in_time = escalator.answered(correlation, now_s)
        metrics.escalations.labels(outcome="answered" if in_time else "late").inc()
        kind = "audit" if asked.accepted else "hard"
        agrees = str(int(row.argmax()) == asked.label).lower()
        metrics.agreement.labels(kind=kind, agrees=agrees).inc()
        matched.append((asked, row))
    return matched
