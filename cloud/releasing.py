"""From a candidate to a signed release."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from cloud.config import CloudPipelineConfig
from cloud.registry import Entry, Registry
from shared.errors import StorageError
from shared.messages import Tensor
from shared.model_spec import Calibration
from shared.releases.blobs import describe
from shared.releases.manifest import Manifest, sign_manifest
from shared.releases.release import Release, Variant
from shared.releases.rollout import Rollout
from shared.releases.trust import Trust

GOLDEN_TOLERANCE = {"int8": 0.1, "fp32": 1e-3}
"""Allowed difference to a golden score, as a share of the range of the golden scores. An int8 model
answers a little differently from CPU to CPU."""

DAY_S = 86_400


@dataclass(frozen=True)
class Draft:
    """What is to be released.

    Attributes:
        pipeline: the pipeline.
        channel: the channel.
        artefact: the ONNX file.
        precision: of its weights, ``int8`` or ``fp32``.
        calibration: temperature and threshold.
        golden: file with ``inputs`` and this artefact's scores.
        scores: name of the scores in that file.
    """

    pipeline: str
    channel: str
    artefact: Path
    precision: str
    calibration: Calibration
    golden: Path
    scores: str


class Releaser:
    """Signs drafts and keeps them.

    Args:
        registry: where releases are kept.
        key: signs.
        trust: the document in force: its epoch stands in what is signed.
        chunk_bytes: size of the chunks.
        release_days: how long a release may be accepted.
    """

    def __init__(
        self,
        registry: Registry,
        key: Ed25519PrivateKey,
        trust: Trust,
        chunk_bytes: int,
        release_days: float,
    ) -> None:
        self._registry = registry
        self._key = key
        self._trust = trust
        self._chunk_bytes = chunk_bytes
        self._release_days = release_days

    def release(self, draft: Draft, config: CloudPipelineConfig, issued: float) -> Entry:
        """Makes the next release of a channel.

        Args:
            draft: what.
            config: labels and input shape.
            issued: now, seconds since 1970.

        Raises:
            ManifestError: the parts do not fit each other.
            StorageError: a file cannot be read or written.
        """
        latest = self._registry.latest(draft.channel)
        seq = latest.manifest.seq + 1 if latest else 1
        try:
            data = draft.artefact.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read {draft.artefact}: {error.strerror}") from error
        manifest = Manifest(
            channel=draft.channel,
            key_epoch=self._trust.key_epoch,
            seq=seq,
            issued=issued,
            expires=issued + self._release_days * DAY_S,
            state="active",
            release=self._contents(draft, config, data, str(seq)),
            rollout=Rollout(id=f"{draft.channel}-{seq}", salt=f"{seq}", share=1.0),
        )
        return self._registry.add(sign_manifest(manifest, [self._key]), [data])

    def _contents(
        self, draft: Draft, config: CloudPipelineConfig, data: bytes, version: str
    ) -> Release:
        inputs, scores = _golden(draft)
        variant = Variant(
            artefact=describe(data, self._chunk_bytes, draft.precision),
            calibration=draft.calibration,
            scores=Tensor.of(scores),
            tolerance=GOLDEN_TOLERANCE[draft.precision] * float(np.ptp(scores)),
        )
        return Release(
            pipeline=draft.pipeline,
            version=version,
            labels=config.labels,
            input_shape=config.input.shape,
            scores="logits",
            golden=Tensor.of(inputs),
            variants=(variant,),
        )


def _golden(draft: Draft) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns golden inputs and the scores that this artefact gave to them."""
    try:
        with np.load(draft.golden) as data:
            return data["inputs"], data[draft.scores]
    except (OSError, KeyError, ValueError) as error:
        raise StorageError(f"cannot read {draft.golden}: {error}") from error
