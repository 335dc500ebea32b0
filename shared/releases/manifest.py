"""What a release is. It is read only after its signature was verified (``signing.py``)."""

from __future__ import annotations

import math

import msgspec

from shared.errors import ManifestError
from shared.messages import SCHEMA_VERSION, UNREADABLE, Public, Tensor
from shared.model_spec import Calibration, ModelSpec
from shared.releases.artefact import MAX_CHUNK_BYTES, Artefact, problems
from shared.scores import ScoreKind

__all__ = ["MAX_CHUNK_BYTES", "Artefact", "Golden", "Manifest", "parse_manifest"]

MAX_MANIFEST_BYTES = 256 * 2**10
MAX_LABELS = 10_000


class Golden(Public, frozen=True):
    """Inputs with the scores that the model must give on every CPU.

    Attributes:
        inputs: float32 [N, ...].
        scores: float32 [N, labels], raw.
        tolerance: largest difference allowed to a score.
    """

    inputs: Tensor
    scores: Tensor
    tolerance: float


class Manifest(Public, frozen=True):
    """A release of one channel.

    Attributes:
        channel: the channel.
        seq: grows with each release of the channel; a rollback is a new one, too.
        issued: seconds since 1970.
        expires: from then on it may not be accepted; what runs goes on running.
        pipeline: the pipeline that it is made for.
        version: name of the model's version, for people.
        artefact: the model's file.
        labels: one for each output.
        input_shape: of one sample.
        scores: what the output holds.
        calibration: temperature and threshold with its certificate; swaps with the model.
        golden: what it must answer.
    """

    channel: str
    seq: int
    issued: float
    expires: float
    pipeline: str
    version: str
    artefact: Artefact
    labels: tuple[str, ...]
    input_shape: tuple[int, ...]
    scores: ScoreKind
    calibration: Calibration
    golden: Golden
    schema_version: int = SCHEMA_VERSION

    def model_spec(self) -> ModelSpec:
        """Returns what a loaded model needs to know."""
        return ModelSpec(
            self.channel,
            self.version,
            self.artefact.sha256,
            self.labels,
            self.scores,
            self.calibration,
        )


def parse_manifest(body: bytes) -> Manifest:
    """Reads a manifest whose signature was verified.

    Args:
        body: the signed JSON.

    Raises:
        ManifestError: not a manifest, or one that contradicts itself.
    """
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except UNREADABLE as error:
        raise ManifestError(f"the signed bytes are no manifest: {error}") from error
    for problem in _contradictions(manifest):
        raise ManifestError(f"release {manifest.channel} seq {manifest.seq}: {problem}")
    return manifest


def _contradictions(manifest: Manifest) -> list[str]:
    calibration = manifest.calibration
    checks = {
        "its schema is newer than this node": manifest.schema_version <= SCHEMA_VERSION,
        "seq is below 1": manifest.seq >= 1,
        "the number of labels is not within 2 to 10,000": 2 <= len(manifest.labels) <= MAX_LABELS,
        "the temperature is not above 0": 0 < calibration.temperature < math.inf,
        "the threshold is negative": 0 <= calibration.threshold < math.inf
        or (calibration.score == "energy" and math.isfinite(calibration.threshold)),
        "energy needs logits": calibration.score != "energy" or manifest.scores == "logits",
        "the golden tolerance is not above 0": 0 < manifest.golden.tolerance < math.inf,
        "the golden inputs do not fit the input shape": manifest.golden.inputs.shape[1:]
        == manifest.input_shape,
        "the golden scores do not fit the labels": manifest.golden.scores.shape
        == (*manifest.golden.inputs.shape[:1], len(manifest.labels)),
    }
    broken = [problem for problem, holds in checks.items() if not holds]
    return broken + problems(manifest.artefact)
