"""The questions of tier-1, and the messages that carry them to tier-2. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.cascade.gate import inclusion_probability
from shared.messages import (
    SCHEMA_VERSION,
    CertificateState,
    EscalatedSample,
    Escalation,
    Reason,
    Tensor,
)
from shared.model_spec import ModelSpec
from tier1.answers import Late, Pack, Verdict, sample_id
from tier1.deliveries import Taken


class Question(msgspec.Struct, gc=False, eq=False):
    """A sample that tier-2 is to see, with what tier-1 thought of it.

    Attributes:
        taken: the message that brought it.
        row: its number in that message.
        pack: the pack that waits for it; None for a single sample, or where nobody waits.
        accepted: tier-1 has answered it; tier-2 only looks at it as well.
        audit: the audit drew it.
        own: what tier-1 answers without tier-2; its reason is why it is asked.
        label: index of tier-1's label.
        certainty: what the threshold was held against.
        features: the sample, in memory of its own: no question keeps its batch.
        spec: of the model that was asked first.
        only_audited: tier-1 has not answered it, but tier-2 sees it only because the audit drew it:
            for others like it there was no room, and they are not kept.
    """

    taken: Taken
    row: int
    pack: Pack | None
    accepted: bool
    audit: bool
    own: Verdict
    label: int
    certainty: float
    features: NDArray[np.generic]
    spec: ModelSpec
    only_audited: bool = False

    @property
    def reason(self) -> Reason:
        """Why tier-2 is asked."""
        return self.own.reason

    def late(self) -> Late:
        """Returns what is kept of it past its deadline."""
        taken = self.taken
        return Late(
            sample_id(taken, self.row),
            taken.sensor,
            taken.timestamp,
            taken.received_s,
            self.accepted,
            self.reason,
            self.label,
            self.certainty,
            self.spec,
        )


class Questionnaire:
    """Writes a node's questions of one pipeline into messages.

    Args:
        pipeline: the pipeline.
        node: this node's name.
        reply_to: last level of the topic that replies come on.
        deadline_ms: nobody waits for an answer after this long.
        audit_share: share of the samples that are audited, 0 to 1.
        first_correlation: random, so that an answer to the question of an earlier life fits none
            of this.
    """

    def __init__(
        self,
        *,
        pipeline: str,
        node: str,
        reply_to: str,
        deadline_ms: float,
        audit_share: float,
        first_correlation: int,
    ) -> None:
        self._pipeline = pipeline
        self._node = node
        self._reply_to = reply_to
        self._deadline_ms = deadline_ms
        self._audit_share = audit_share
        self._correlations = itertools.count(first_correlation)
        self._seen = 0
        self._unsure = 0
        self._drift_alarms = 0

    def count(self, seen: int, unsure: int, drift_alarms: int) -> None:
        """Notes how many samples the gate saw; the counts ride on the next message."""
        self._seen += seen
        self._unsure += unsure
        self._drift_alarms += drift_alarms

    def correlations(self) -> Iterator[int]:
        """Returns the numbers that the next questions go by."""
        return self._correlations

    def message(
        self,
        correlations: Sequence[int],
        questions: Sequence[Question],
        certificate: CertificateState,
    ) -> Escalation:
        """Returns a message of questions of one model.

        Args:
            correlations: what the reply names them by.
            questions: the questions, at least one.
            certificate: whether what was certified of the threshold counts.
        """
        seen, unsure, drift_alarms = self._seen, self._unsure, self._drift_alarms
        self._seen = self._unsure = self._drift_alarms = 0
        return Escalation(
            SCHEMA_VERSION,
            self._node,
            self._pipeline,
            questions[0].spec.version,
            self._deadline_ms,
            seen,
            unsure,
            tuple(map(self.sample, correlations, questions)),
            Tensor.of(np.stack([question.features for question in questions])),
            Tensor.of(np.stack([question.own.probabilities for question in questions])),
            self._reply_to,
            audit_share=self._audit_share,
            certificate=certificate,
            drift_alarms=drift_alarms,
        )

    def sample(self, correlation: int, question: Question) -> EscalatedSample:
        """Returns what a message says of one question."""
        taken = question.taken
        by_audit = question.accepted or question.only_audited
        chance = inclusion_probability(by_audit=by_audit, audit_share=self._audit_share)
        return EscalatedSample(
            correlation,
            sample_id(taken, question.row),
            taken.sensor,
            taken.timestamp,
            question.reason,
            question.audit,
            chance,
        )
