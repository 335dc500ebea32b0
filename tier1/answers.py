"""From verdicts on samples to the one message that answers them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from shared.messages import DecidedBy, PackPrediction, Prediction, Reason, Timestamp
from shared.model_spec import ModelSpec
from shared.scores import Floats
from tier1.deliveries import Taken


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What was decided on one sample, by whom, and why.

    Attributes:
        label: the label.
        confidence: its probability, 0 to 1.
        decided_by: who decided.
        reason: why.
        model: the channel or name of the deciding model.
        model_version: its version.
        probabilities: float32 [labels].
        labels: of the deciding model, in the order of the probabilities.
    """

    label: str
    confidence: float
    decided_by: DecidedBy
    reason: Reason
    model: str
    model_version: str
    probabilities: Floats
    labels: tuple[str, ...]


class Late(msgspec.Struct, frozen=True, gc=False):
    """What a late reply of tier-2 needs of its question: not the sample, its message or its pack.

    Attributes:
        id: the sample's.
        sensor: who sent it.
        timestamp: the sensor's, or when it was received, seconds since 1970.
        received_s: when, monotonic.
        accepted: tier-1 was sure; tier-2 only looked at it as well.
        reason: why tier-2 was asked.
        label: index of tier-1's label.
        certainty: what the threshold was held against.
        spec: of the model that was asked first.
    """

    id: str
    sensor: str
    timestamp: Timestamp
    received_s: float
    accepted: bool
    reason: Reason
    label: int
    certainty: float
    spec: ModelSpec


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A message that answers, and what it answers.

    ``taken`` is None for a correction: its sample was acknowledged with the first answer.
    """

    prediction: Prediction | PackPrediction
    taken: Taken | None

    def tally(self) -> Iterable[tuple[tuple[DecidedBy, Reason], int]]:
        """Returns who decided how many final answers, and why."""
        prediction = self.prediction
        if isinstance(prediction, PackPrediction):
            return Counter(zip(prediction.decided_by, prediction.reasons, strict=True)).items()
        if prediction.is_correction:
            return ()
        return (((prediction.decided_by, prediction.reason), 1),)


class Pack(msgspec.Struct, gc=False, eq=False):
    """A pack whose samples are decided one after the other: columns of N.

    Attributes:
        taken: the pack.
        labels: the labels, tier-1's own until another tier decides.
        confidences: their probabilities.
        decided_by: who decided.
        reasons: why.
        versions: of the deciding models.
        probabilities: float32 [N, labels].
        open: how many samples wait for a verdict.
    """

    taken: Taken
    labels: list[str]
    confidences: list[float]
    decided_by: list[DecidedBy]
    reasons: list[Reason]
    versions: list[str]
    probabilities: Floats
    open: int

    def decide(self, row: int, verdict: Verdict) -> bool:
        """Notes a verdict; returns whether it was the last that was missing."""
        self.labels[row] = verdict.label
        self.confidences[row] = verdict.confidence
        self.decided_by[row] = verdict.decided_by
        self.reasons[row] = verdict.reason
        self.versions[row] = verdict.model_version
        self.probabilities[row] = verdict.probabilities
        self.open -= 1
        return self.open == 0


class Answers:
    """Writes a pipeline's answers.

    Args:
        node: this node's name.
        shows_probabilities: whether answers carry the probability of every label.
    """

    def __init__(self, node: str, *, shows_probabilities: bool) -> None:
        self._node = node
        self._shows_probabilities = shows_probabilities

    def single(self, taken: Taken, verdict: Verdict, now_s: float) -> Answer:
        """Returns the final answer to one sample."""
        return Answer(self._prediction(taken, taken.id, verdict, now_s), taken)

    def correction(self, late: Late, verdict: Verdict, now_s: float) -> Answer:
        """Returns what supersedes the answer that was given before."""
        prediction = self._prediction(late, late.id, verdict, now_s)
        return Answer(msgspec.structs.replace(prediction, supersedes=late.id), None)

    def pack(self, pack: Pack, now_s: float) -> Answer:
        """Returns the final answer to a pack that is decided."""
        taken = pack.taken
        shown = pack.probabilities.tolist() if self._shows_probabilities else msgspec.UNSET
        answer = PackPrediction(
            id=taken.id,
            device_id=taken.sensor,
            timestamp=taken.timestamp,
            predictions=pack.labels,
            confidences=pack.confidences,
            decided_by=pack.decided_by,
            reasons=pack.reasons,
            model_versions=pack.versions,
            latency_ms=round((now_s - taken.received_s) * 1000, 3),
            node=self._node,
            ids=msgspec.UNSET if taken.ids is None else list(taken.ids),
            probabilities=shown,
        )
        return Answer(answer, taken)

    def _prediction(
        self, taken: Taken | Late, identity: str, verdict: Verdict, now_s: float
    ) -> Prediction:
        shown: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
        if self._shows_probabilities:
            shown = dict(zip(verdict.labels, verdict.probabilities.tolist(), strict=True))
        return Prediction(
            id=identity,
            device_id=taken.sensor,
            timestamp=taken.timestamp,
            prediction=verdict.label,
            confidence=verdict.confidence,
            decided_by=verdict.decided_by,
            reason=verdict.reason,
            model=verdict.model,
            model_version=verdict.model_version,
            latency_ms=round((now_s - taken.received_s) * 1000, 3),
            node=self._node,
            probabilities=shown,
        )


def sample_id(taken: Taken, row: int) -> str:
    """Returns the id of one sample: its own, or the pack's with the sample's number."""
    if taken.ids is not None:
        return taken.ids[row]
    return f"{taken.id}/{row}" if taken.is_pack else taken.id
