"""Every payload on the wire, typed: JSON for people, MessagePack among our own nodes.

A field may be added with a default and the version stays, where a reader that does not know it may
pass over it; else the version of that kind of message rises (``newest_schema``), in those messages
alone that use what is new. A reader refuses a version above its own.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import NewerSchemaError, PayloadError

SCHEMA_VERSION = 1
LABELS_SCHEMA_VERSION = 2
"""Of telemetry with labels. A cloud that knows no labels would confirm and lose them: it refuses
the message instead, and the site keeps it until the cloud is newer."""

MAX_LABEL_CHARACTERS = 256

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding untrusted bytes may raise: the library lets the last two through."""

MAX_ASKED_CHUNKS = 64
"""In one request."""

ChunkIndex = Annotated[int, msgspec.Meta(ge=0, lt=1_000_000)]
DecidedBy = Literal["tier1", "tier2", "fallback"]
Reason = Literal[
    "confident",
    "low_confidence",
    "audit",
    "deadline",
    "breaker_open",
    "budget",
    "max_inflight",
    "unreachable",
    "invalid_scores",
]
CertificateState = Literal["holds", "broken", "void", "none"]
"""Whether what was certified of a threshold counts on a node: yes; no, its own audit has broken it;
no, for drift was seen; nothing was certified."""
Timestamp = float | str
"""Seconds since 1970, or text such as RFC 3339: a node hands it on as the sensor wrote it."""


class Public(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A JSON payload."""


class Internal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A MessagePack payload between our own nodes. ``schema_version`` comes first on the wire.

    None holds a cycle, so that the garbage collector need not look at them: that more than halves
    the time that reading a message of telemetry takes.
    """

    newest_schema: ClassVar[int] = SCHEMA_VERSION


@cache
def _on_the_wire(dtype: np.dtype[Any]) -> tuple[str, np.dtype[Any]]:
    """Returns a dtype's name and its little-endian form; numpy takes microseconds for each."""
    return dtype.name, dtype.newbyteorder("<")


class Tensor(Internal, frozen=True):
    """A little-endian, C-ordered array.

    Attributes:
        dtype: numpy's name of the element type, one of ``DTYPES``.
        shape: the dimensions.
        data: ``prod(shape) * itemsize`` bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array: NDArray[Any]) -> Tensor:
        """Packs an array of one of ``DTYPES``."""
        name, little = _on_the_wire(array.dtype)
        return cls(name, array.shape, array.astype(little, copy=False).tobytes())

    def array(self) -> NDArray[Any]:
        """Returns the array, read-only, on the same memory.

        Raises:
            PayloadError: unknown dtype, or a size that does not fit the shape.
        """
        dtype = DTYPES.get(self.dtype)
        if dtype is None:
            raise PayloadError("bad_tensor", f"dtype {self.dtype!r} is not one of {list(DTYPES)}")
        if len(self.shape) > MAX_DIMENSIONS or any(size < 0 for size in self.shape):
            raise PayloadError("bad_tensor", f"shape {self.shape} is not a shape")
        expected_bytes = dtype.itemsize
        for size in self.shape:
            expected_bytes *= size
        if expected_bytes != len(self.data):
            raise PayloadError(
                "bad_tensor",
                f"shape {self.shape} of {self.dtype} takes {expected_bytes} bytes, "
                f"not {len(self.data)}",
            )
        try:
            return np.frombuffer(self.data, dtype).reshape(self.shape)
        except ValueError as error:  # an empty array with a dimension beyond numpy's
            raise PayloadError("bad_tensor", f"shape {self.shape}: {error}") from error


DTYPES = {name: np.dtype(name).newbyteorder("<") for name in ("float32", "uint8", "int64")}
MAX_DIMENSIONS = 8


class Sample(Public, frozen=True):
    """What a sensor publishes. A bare JSON array stands for ``features`` alone."""

    features: list[float]
    id: str | int | None = None
    timestamp: Timestamp | None = None


class Prediction(Public, frozen=True):
    """The one final answer to a sample, or the one correction that supersedes it.

    Attributes:
        id: the sample's id.
        device_id: the sensor.
        timestamp: the sample's own timestamp, or when it was received, seconds since 1970.
        prediction: the label.
        confidence: probability of the label, 0 to 1.
        decided_by: who decided.
        reason: why.
        model: the channel or name of the deciding model.
        model_version: its version.
        latency_ms: from receipt on the node to this answer.
        probabilities: of every label, on request; else left out.
        supersedes: in a correction alone, the id whose earlier answer it replaces.
    """

    id: str
    device_id: str
    timestamp: Timestamp
    prediction: str
    confidence: float
    decided_by: DecidedBy
    reason: Reason
    model: str
    model_version: str
    latency_ms: float
    node: str
    probabilities: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    supersedes: str | msgspec.UnsetType = msgspec.UNSET
    schema_version: int = SCHEMA_VERSION

    @property
    def is_correction(self) -> bool:
        """Whether it replaces an answer that was given before."""
        return self.supersedes is not msgspec.UNSET


class PackPrediction(Public, frozen=True):
    """The one final answer to a pack of N samples: columns of N, in the pack's order.

    Attributes:
        id: the pack's id; the id of its sample number i is ``ids[i]``, or ``id/i`` without ``ids``.
        device_id: the sensor.
        timestamp: the pack's own timestamp, or when it was received, seconds since 1970.
        predictions: the labels.
        confidences: probabilities of the labels, 0 to 1.
        decided_by: who decided.
        reasons: why.
        model_versions: versions of the deciding models.
        latency_ms: from receipt on the node to this answer.
        ids: the samples' own ids, where they have them.
        probabilities: of every label in their order, on request; else left out.
    """

    id: str
    device_id: str
    timestamp: Timestamp
    predictions: list[str]
    confidences: list[float]
    decided_by: list[DecidedBy]
    reasons: list[Reason]
    model_versions: list[str]
    latency_ms: float
    node: str
    ids: list[str] | msgspec.UnsetType = msgspec.UNSET
    probabilities: list[list[float]] | msgspec.UnsetType = msgspec.UNSET
    schema_version: int = SCHEMA_VERSION


class SampleError(Public, frozen=True):
    """What was wrong with a sample, told to its sender."""

    id: str | None
    device_id: str
    timestamp: float
    error: str
    expected: str
    schema_version: int = SCHEMA_VERSION


class Label(Public, frozen=True):
    """What a person says a sample is.

    Attributes:
        id: the sample's id.
        label: one of the pipeline's labels.
        by: who says so.
        timestamp: when it was said: seconds since 1970, or RFC 3339; left out, when it comes.
    """

    id: str | int
    label: str | int
    by: str = ""
    timestamp: Timestamp | None = None


class EscalatedSample(Internal, frozen=True):
    """One question to tier-2.

    Attributes:
        correlation: what the reply names it by. Sensors choose ids, so two may choose the same.
        id: the sample's id.
        sensor: who sent it.
        timestamp: as in the prediction.
        reason: why it is asked.
        audit: whether the audit drew it. Drawn before the gate, from every sample alike, so that
            the audited samples are a uniform sample of the traffic.
        inclusion_probability: the chance that such a sample reaches tier-2, in (0, 1]. One that
            got through only because the audit drew it has the audit's.
    """

    correlation: int
    id: str
    sensor: str
    timestamp: Timestamp
    reason: Reason
    audit: bool
    inclusion_probability: float


class Escalation(Internal, frozen=True):
    """Questions of one tier-1 node, with what telemetry needs.

    Attributes:
        node: the asking node.
        pipeline: the pipeline.
        model_version: of the tier-1 model that was not sure.
        budget_ms: nobody waits for an answer after this long from its sending.
        seen: samples that the node gated since its previous escalation message, these included.
        unsure: how many of those it was not sure of.
        samples: N questions.
        inputs: of the pipeline's dtype, [N, ...].
        probabilities: of the asking tier, float32 [N, labels].
        reply_to: last level of the topic that the reply goes to; empty for the node's name. The
            workers of one node have one each.
        backlog: nobody waits: what could not be asked when it came, as training material. The
            reply says that it is on tier-2's disk.
        recorded: the asking node keeps the record for the cloud itself.
        audit_share: the audit's chance on the asking node, in (0, 1]; 0 if it does not say.
        certificate: whether what was certified of its threshold counts.
        drift_alarms: of its model, since its previous escalation message.
    """

    schema_version: int
    node: str
    pipeline: str
    model_version: str
    budget_ms: float
    seen: int
    unsure: int
    samples: tuple[EscalatedSample, ...]
    inputs: Tensor
    probabilities: Tensor
    reply_to: str = ""
    backlog: bool = False
    recorded: bool = False
    audit_share: float = 0.0
    certificate: CertificateState = "none"
    drift_alarms: int = 0


class Reply(Internal, frozen=True):
    """Tier-2's answers to one node.

    Attributes:
        model: the channel or name of the tier-2 model.
        model_version: its version.
        correlations: of the N samples.
        probabilities: float32 [N, labels].
    """

    schema_version: int
    node: str
    pipeline: str
    model: str
    model_version: str
    correlations: tuple[int, ...]
    probabilities: Tensor


class GateCount(Internal, frozen=True):
    """How many samples a tier-1 node gated and how many of them it was not sure of.

    Attributes:
        certificate: whether what was certified of its threshold counts, as it said last.
        drift_alarms: that it counted meanwhile.
    """

    node: str
    pipeline: str
    model_version: str
    seen: int
    unsure: int
    certificate: CertificateState = "none"
    drift_alarms: int = 0


class TelemetryRecord(Internal, frozen=True):
    """One escalated sample with both tiers' scores.

    ``input`` is None where the pipeline's ``uplink`` keeps inputs on the site. ``late`` says that
    the sample could not be asked about when it came, and comes out of a backlog.
    """

    sample: EscalatedSample
    node: str
    pipeline: str
    tier1_version: str
    tier2_version: str
    tier1_probabilities: Tensor
    tier2_probabilities: Tensor
    input: Tensor | None
    late: bool = False


class SampleLabel(Internal, frozen=True):
    """What a person said a sample is, on its way to the cloud.

    Attributes:
        pipeline: the pipeline.
        sensor: who sent the sample.
        id: the sample's id.
        label: what it is.
        by: who said so; empty if nobody is named.
        labelled_s: when, seconds since 1970.
    """

    pipeline: str
    sensor: str
    id: str
    label: str
    by: str
    labelled_s: float


class Telemetry(Internal, frozen=True):
    """What tier-2 sends up, kept on its disk until the cloud says that it is stored.

    Attributes:
        batch: unique per sender; the cloud collapses repeats by it.
        labels: of people; then ``schema_version`` is ``LABELS_SCHEMA_VERSION``.
    """

    newest_schema: ClassVar[int] = LABELS_SCHEMA_VERSION

    schema_version: int
    sender: str
    batch: str
    records: tuple[TelemetryRecord, ...]
    counts: tuple[GateCount, ...]
    labels: tuple[SampleLabel, ...] = ()


class TelemetryAck(Internal, frozen=True):
    """The cloud has these batches on its disk."""

    schema_version: int
    batches: tuple[str, ...]


class BlobRequest(Internal, frozen=True):
    """A node asks for chunks of an artefact that are not retained.

    Attributes:
        sha256: of the artefact, in hex.
        indices: of the chunks, at most ``MAX_ASKED_CHUNKS``.
    """

    schema_version: int
    sha256: str
    indices: Annotated[tuple[ChunkIndex, ...], msgspec.Meta(max_length=MAX_ASKED_CHUNKS)]


class NodeState(Public, frozen=True):
    """Birth (``online``) and last will or farewell (``offline``) of a node.

    Attributes:
        instance: of the process; another one under the same name is another process.
        host: where it runs.
    """

    node: str
    role: str
    state: Literal["online", "offline"]
    instance: str = ""
    host: str = ""
    schema_version: int = SCHEMA_VERSION


class ModelInfo(Public, frozen=True):
    """A model that a node serves.

    Attributes:
        model: the channel that it came by, or its name.
        version: its version.
        sha256: of its file, in hex.
        certificate: whether what was certified of its threshold counts here.
        threshold: that its gate goes by here; None where it accepts nothing.
        drift_alarms: how often its answers have drifted here.
        remark: why the certificate does not count, in words.
    """

    model: str
    version: str
    sha256: str
    certificate: CertificateState = "none"
    threshold: float | None = None
    drift_alarms: int = 0
    remark: str = ""


class NodeInfo(Public, frozen=True):
    """What a node is.

    Attributes:
        started: seconds since 1970.
        models: what serves, by pipeline.
        activity: what the node is doing beside its work, in words.
        hardware: class of the machine; of each class one node tries a release first.
        channels: whose releases it follows.
    """

    node: str
    role: str
    site: str
    software: str
    started: float
    models: dict[str, ModelInfo]
    metrics_url: str | None = None
    activity: str = ""
    hardware: str = ""
    channels: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION


class Step(Public, frozen=True):
    """How long an update stayed in one state."""

    state: str
    seconds: float


class UpdateReport(Public, frozen=True):
    """The course of an update on one node.

    Attributes:
        node: the node.
        channel: the channel.
        seq: of the manifest.
        version: of the release.
        state: where the update is, or how it ended.
        reason: why, in words.
        since: when the state began, seconds since 1970.
        steps: the states that were left.
        key_epoch: of the manifest.
        rollout: id of the rollout that it belongs to.
        sha256: of the file that was chosen to serve; empty before that.
        bytes_fetched: over the network, for this update.
    """

    node: str
    channel: str
    seq: int
    version: str
    state: str
    reason: str
    since: float
    steps: list[Step]
    key_epoch: int = 1
    rollout: str = ""
    sha256: str = ""
    bytes_fetched: int = 0
    schema_version: int = SCHEMA_VERSION


Payload = TypeVar("Payload", bound=Internal)
PublicPayload = TypeVar("PublicPayload", bound=Public)

_PACK = msgspec.msgpack.Encoder()
_JSON = msgspec.json.Encoder()


def pack(message: Internal) -> bytes:
    """Encodes an internal message."""
    return _PACK.encode(message)


def unpack(payload: bytes, kind: type[Payload]) -> Payload:
    """Decodes an internal message.

    Raises:
        PayloadError: not this kind of message, or of a newer schema.
    """
    try:
        message = msgspec.msgpack.decode(payload, type=kind)
    except UNREADABLE as error:
        raise _not_a(kind, error) from error
    if getattr(message, "schema_version", SCHEMA_VERSION) > kind.newest_schema:
        raise PayloadError("newer_schema", f"{kind.__name__} of a newer schema: update this node")
    return message


def to_json(message: Public) -> bytes:
    """Encodes a public message."""
    return _JSON.encode(message)


def from_json(payload: bytes, kind: type[PublicPayload]) -> PublicPayload:
    """Decodes a public message.

    Raises:
        PayloadError: not JSON, or not this kind of message.
    """
    try:
        return msgspec.json.decode(payload, type=kind)
    except UNREADABLE as error:
        raise _not_a(kind, error) from error


class _Schema(msgspec.Struct):
    schema_version: int = 0


def refuse_newer(document: bytes, what: str) -> None:
    """Refuses a JSON document of a newer schema, before anything else in it is looked at.

    What a later schema means by a field nobody here can know, so that it is not called damaged.

    Args:
        document: JSON; what is none passes, for whoever reads it to say so.
        what: it is, for the error.

    Raises:
        NewerSchemaError: a newer Escalon has written it.
    """
    try:
        schema = msgspec.json.decode(document, type=_Schema).schema_version
    except UNREADABLE:
        return
    if schema > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"{what} was written by a newer Escalon: its schema is {schema}, this one reads "
            f"{SCHEMA_VERSION}. Fix: update Escalon here"
        )


def _not_a(kind: type[msgspec.Struct], error: Exception) -> PayloadError:
    return PayloadError(f"not_{kind.__name__.lower()}", f"not a {kind.__name__}: {error}")
