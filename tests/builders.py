"""Small real things to test with: ONNX models, manifests, samples, configurations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shared.inputs import Inputs
from shared.messages import EscalatedSample, Reason, TelemetryRecord, Tensor
from shared.model import Model
from shared.model_spec import Calibration, Certificate, ModelSpec
from shared.releases.artefact import Artefact
from shared.releases.blobs import describe
from shared.releases.envelope import Role
from shared.releases.keys import public_hex
from shared.releases.manifest import Manifest
from shared.releases.release import Release, Variant
from shared.releases.rollout import Rollout
from shared.releases.trust import Trust
from shared.scores import Floats, ScoreKind

LABELS = ("zero", "one", "two")
SHAPE = (3,)
CHANNEL = "meter-tier1"
CHUNK_BYTES = 64
EPOCH_S = 1_700_000_000.0
FAR_FUTURE_S = 4_000_000_000.0

CERTIFICATE = Certificate(
    alpha=0.05, delta=0.05, n=400, disagreements=8, coverage=0.8, bound=0.0358
)


def linear_onnx(weights: NDArray[Any], bias: NDArray[Any]) -> bytes:
    """Returns ``x @ weights + bias`` as an ONNX file."""
    inputs, outputs = weights.shape
    return _onnx(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        inputs,
        outputs,
        {"w": weights.astype(np.float32), "b": bias.astype(np.float32)},
    )


def echo_onnx(size: int = len(LABELS)) -> bytes:
    """Returns a model that answers its own input, so that a sample chooses its scores."""
    return _onnx([helper.make_node("Identity", ["x"], ["y"])], size, size, {})


def diagonal_onnx(gain: float) -> bytes:
    """Returns a model of logits: each feature times a gain. Other gain, other bytes."""
    size = len(LABELS)
    return linear_onnx(gain * np.eye(size), np.zeros(size))


def nan_onnx() -> bytes:
    """Returns a model that loads and answers NaN to everything."""
    size = len(LABELS)
    return linear_onnx(np.eye(size), np.full(size, np.nan))


def _onnx(
    nodes: Sequence[onnx.NodeProto], inputs: int, outputs: int, constants: dict[str, Floats]
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", outputs])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def spec(
    *,
    version: str = "1",
    labels: tuple[str, ...] = LABELS,
    scores: ScoreKind = "probabilities",
    threshold: float = 0.8,
    temperature: float = 1.0,
) -> ModelSpec:
    """Returns what a test's model is."""
    calibration = Calibration(temperature, threshold)
    return ModelSpec("meter", version, "0" * 64, labels, scores, calibration)


def load_echo(folder: Path, *, threshold: float = 0.8, version: str = "1") -> Model:
    """Returns a loaded model that answers its own input as probabilities."""
    path = folder / "echo.onnx"
    path.write_bytes(echo_onnx())
    return Model.load(path, spec(threshold=threshold, version=version), Inputs.plain(SHAPE))


GOLDEN_INPUTS = np.eye(len(LABELS), dtype=np.float32)


def variant(data: bytes, *, gain: float = 1.0, **changes: Any) -> Variant:
    """Returns what a release says of a file whose model is ``diagonal_onnx(gain)``."""
    whole = Variant(
        artefact=describe(data, CHUNK_BYTES, "fp32"),
        calibration=Calibration(1.0, 0.8, CERTIFICATE),
        scores=Tensor.of(np.float32(gain) * GOLDEN_INPUTS),
        tolerance=1e-3,
    )
    return msgspec.structs.replace(whole, **changes)


def release(data: bytes, *, gain: float = 1.0, **changes: Any) -> Release:
    """Returns a sound release of a file, with changes."""
    whole = Release(
        pipeline="meter",
        version="1",
        labels=LABELS,
        input_shape=SHAPE,
        scores="logits",
        golden=Tensor.of(GOLDEN_INPUTS),
        variants=(variant(data, gain=gain),),
    )
    return msgspec.structs.replace(whole, **changes)


def manifest(data: bytes, *, gain: float = 1.0, **changes: Any) -> Manifest:
    """Returns a sound manifest of a file, with changes of its own or of its release."""
    of_release = {name: changes.pop(name) for name in RELEASE_FIELDS & changes.keys()}
    whole = Manifest(
        channel=CHANNEL,
        key_epoch=1,
        seq=1,
        issued=EPOCH_S,
        expires=FAR_FUTURE_S,
        state="active",
        release=release(data, gain=gain, **of_release),
        rollout=Rollout(id="rollout-1", salt="salt", share=1.0),
    )
    return msgspec.structs.replace(whole, **changes)


def file_of(described: Manifest) -> Artefact:
    """Returns the first file of a manifest's release."""
    return described.release.artefacts[0]


RELEASE_FIELDS = set(Release.__struct_fields__)


def trust_in(key: Ed25519PrivateKey, **changes: Any) -> Trust:
    """Returns the trust in one key, for releases and for the next version."""
    role = Role(keys=(public_hex(key),))
    whole = Trust(version=1, key_epoch=1, issued=EPOCH_S, root=role, releases=role)
    return msgspec.structs.replace(whole, **changes)


class Trusted:
    """A trust document in force, for what follows one."""

    def __init__(self, key: Ed25519PrivateKey, **changes: Any) -> None:
        self.current = trust_in(key, **changes)


def sha256(data: bytes) -> str:
    """Returns a digest in hex."""
    return hashlib.sha256(data).hexdigest()


def escalated(
    correlation: int, *, reason: Reason = "low_confidence", audit: bool = False
) -> EscalatedSample:
    """Returns one question to tier-2."""
    name = f"id-{correlation}"
    return EscalatedSample(correlation, name, "cam-01", EPOCH_S, reason, audit, 1.0)


def record(
    correlation: int, *, audit: bool = False, with_input: bool = True, pipeline: str = "meter"
) -> TelemetryRecord:
    """Returns the record of one escalated sample; its input holds its number."""
    scores = np.array([0.1, 0.2, 0.7], np.float32)
    sample = escalated(correlation, audit=audit)
    features = Tensor.of(np.full(SHAPE, correlation, np.float32)) if with_input else None
    return TelemetryRecord(
        sample, "tier1-a", pipeline, "1", "7", Tensor.of(scores), Tensor.of(scores), features
    )
