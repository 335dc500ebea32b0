"""From a message of questions to questions in hand. Pure: the time comes in."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.cascade.sizes import (
    MAX_ID_CHARACTERS,
    MAX_TIMESTAMP_CHARACTERS,
    MAX_VERSION_CHARACTERS,
)
from shared.errors import PayloadError
from shared.inputs import Inputs
from shared.messages import EscalatedSample, Escalation, Tensor
from shared.scores import Floats
from shared.topics import MAX_NAME, NAME

REMEMBERED = 50_000
MAX_BUDGET_MS = 600_000.0
MIN_LABELS = 2


class LateMessage(msgspec.Struct, gc=False, eq=False):
    """A message of a node's backlog: nobody waits for an answer, but the node for a confirmation.

    Attributes:
        node: whose backlog.
        address: where its replies go.
        correlations: of its questions.
        payload_bytes: what its questions take in memory.
        open: how many of its questions are not done with.
        lost: numbers of those that have no record, or had one that was thrown away before it was on
            the disk.
    """

    node: str
    address: str
    correlations: tuple[int, ...]
    payload_bytes: int
    open: int
    lost: set[int] = set()


class Admitted(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A question under way.

    Attributes:
        node: who asks.
        address: where its reply goes.
        tier1_version: of the asking model.
        sample: what is asked.
        row: of the pipeline's dtype, [...].
        tier1_probabilities: float32 [labels].
        due_s: nobody waits for the answer after this, monotonic.
        recorded: the asking node keeps the record for the cloud itself.
        audit_share: the audit's chance on the asking node; 0 if it does not say.
        late: the message of the backlog that it came with.
    """

    node: str
    address: str
    tier1_version: str
    sample: EscalatedSample
    row: NDArray[np.generic]
    tier1_probabilities: Floats
    due_s: float
    recorded: bool = False
    late: LateMessage | None = None
    audit_share: float = 0.0

    @property
    def hard(self) -> bool:
        """Whether the asking node was not sure. It has answered what was only audited."""
        return self.sample.reason != "audit"

    def by_audit(self) -> Admitted:
        """Returns it as one that is here only because the audit drew it: others are dropped."""
        if not self.hard or not self.audit_share:
            return self
        sample = msgspec.structs.replace(self.sample, inclusion_probability=self.audit_share)
        return msgspec.structs.replace(self, sample=sample)


class Admission:
    """Reads messages of questions, and knows those that came before.

    QoS 1 may deliver a message twice.

    Args:
        layout: what a sample's row is.
    """

    def __init__(self, layout: Inputs) -> None:
        self._layout = layout
        self._recent: OrderedDict[tuple[str, int], None] = OrderedDict()

    def live(self, escalation: Escalation, now_s: float) -> list[Admitted]:
        """Returns the questions of a message that had not come before.

        Args:
            escalation: the message.
            now_s: monotonic.

        Raises:
            PayloadError: it does not fit this pipeline, or makes no sense.
        """
        questions = self._read(escalation, now_s + escalation.budget_ms / 1000)
        return [each for each in questions if self._is_new(each.address, each.sample.correlation)]

    def late(self, escalation: Escalation) -> list[Admitted]:
        """Returns the questions of a message of the backlog.

        Raises:
            PayloadError: it does not fit this pipeline, or makes no sense.
        """
        message = LateMessage(
            escalation.node,
            address_of(escalation),
            tuple(sample.correlation for sample in escalation.samples),
            len(escalation.inputs.data) + len(escalation.probabilities.data),
            len(escalation.samples),
        )
        return self._read(escalation, math.inf, message)

    def _read(
        self, escalation: Escalation, due_s: float, late: LateMessage | None = None
    ) -> list[Admitted]:
        _check(escalation)
        samples, scores = escalation.samples, escalation.probabilities
        rows = _array(escalation.inputs, (len(samples), *self._layout.shape), self._layout.dtype)
        labels = max((MIN_LABELS, *scores.shape[1:2]))
        own = _array(scores, (len(samples), labels), np.dtype(np.float32))
        address = address_of(escalation)
        return [
            Admitted(
                escalation.node,
                address,
                escalation.model_version,
                sample,
                row,
                probabilities,
                due_s,
                escalation.recorded,
                late,
                escalation.audit_share,
            )
            for sample, row, probabilities in zip(samples, rows, own, strict=True)
        ]

    def _is_new(self, address: str, correlation: int) -> bool:
        key = (address, correlation)
        if key in self._recent:
            return False
        self._recent[key] = None
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        return True


def address_of(escalation: Escalation) -> str:
    """Returns the last level of the topic that a message's reply goes to."""
    return escalation.reply_to or escalation.node


def _check(escalation: Escalation) -> None:
    """Refuses what the types let through and the rest relies upon.

    Raises:
        PayloadError: it makes no sense.
    """
    problems = {
        "a reply address that is no name": not NAME.fullmatch(address_of(escalation)),
        "a budget that is no time": not 0 <= escalation.budget_ms <= MAX_BUDGET_MS,
        "counts that cannot be": not 0 <= escalation.unsure <= escalation.seen < 2**53,
        "an audit that is no share": not 0 <= escalation.audit_share <= 1,
        "a version that is no name": len(escalation.model_version) > MAX_VERSION_CHARACTERS,
        "a chance that is none": not all(
            0 < sample.inclusion_probability <= 1 for sample in escalation.samples
        ),
        "a name that no sample has": not all(map(_is_named, escalation.samples)),
    }
    problem = next((each for each, found in problems.items() if found), None)
    if problem is not None:
        raise PayloadError("bad_escalation", f"a message of {escalation.node!r} has {problem}")


def _is_named(sample: EscalatedSample) -> bool:
    """Whether its names are no longer than tier-1 lets them be."""
    return (
        len(sample.id) <= MAX_ID_CHARACTERS
        and len(sample.sensor) <= MAX_NAME
        and (
            not isinstance(sample.timestamp, str)
            or len(sample.timestamp) <= MAX_TIMESTAMP_CHARACTERS
        )
    )


def _array(tensor: Tensor, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Returns a tensor that must be of a shape and a dtype.

    Raises:
        PayloadError: it is not.
    """
    array = tensor.array()
    if array.dtype != dtype or array.shape != shape:
        problem = f"{array.dtype} of shape {array.shape} for {dtype} of shape {shape}"
        raise PayloadError("bad_escalation", problem)
    return array
