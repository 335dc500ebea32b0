"""From files to a version in the registry."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from cloud.registry import Registry
from cloud.version import Version
from shared.messages import Tensor
from shared.model_spec import Calibration
from shared.releases.artefact import Artefact, Precision
from shared.releases.blobs import BlobStore
from shared.releases.packing import describe
from shared.releases.release import Release, Variant
from shared.scores import Floats, ScoreKind

GOLDEN_TOLERANCE: dict[Precision, float] = {"int8": 0.1, "fp32": 1e-3}
"""Allowed difference to a golden score, as a share of the range of the golden scores. An int8 model
answers a little differently from CPU to CPU."""


@dataclass(frozen=True)
class ModelFile:
    """One file that a version may be served from.

    Attributes:
        data: the ONNX file.
        precision: of its weights.
        calibration: temperature and threshold, fitted on this file.
        golden_scores: float32 [N, labels], raw: what it answers to the golden inputs.
    """

    data: bytes
    precision: Precision
    calibration: Calibration
    golden_scores: Floats


@dataclass(frozen=True)
class Draft:
    """What is to become a version.

    Attributes:
        pipeline: the pipeline.
        channel: the channel.
        labels: one for each output.
        files: that it may be served from, 1 to 4.
        golden_inputs: float32 [N, ...], that every file is tried with.
        by: who made it.
        scores: what the outputs hold.
        name: of the version; None for the next number.
        parents: versions that it was made from.
        data_sha256: of what it was trained from, in hex.
        metrics: figures of its making.
        notes: in words.
        url_prefix: of a web server that is to have the files; empty for none. There each lies under
            its digest, as ``wire_form`` gives it.
    """

    pipeline: str
    channel: str
    labels: tuple[str, ...]
    files: Sequence[ModelFile]
    golden_inputs: Floats
    by: str
    scores: ScoreKind = "logits"
    name: str | None = None
    parents: tuple[str, ...] = ()
    data_sha256: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    notes: str = ""
    url_prefix: str = ""


def register(draft: Draft, registry: Registry, chunk_bytes: int, now_s: float) -> Version:
    """Makes a draft the next version of its channel.

    A draft without a name whose release is there already is that version: what was cut off after
    it may be done again, and a file that was damaged is whole again.

    Args:
        draft: what.
        registry: where it is kept.
        chunk_bytes: size of the chunks in which its files travel.
        now_s: seconds since 1970.

    Raises:
        ManifestError: the parts do not fit each other.
        StorageError: it cannot be written, or another version has its name.
    """
    release = compose(draft, chunk_bytes)
    if draft.name is None:
        there = registry.same_release(draft.channel, release)
        if there is not None:
            return registry.add_version(there, [file.data for file in draft.files])
        name = registry.next_name(draft.channel)
        release = msgspec.structs.replace(release, version=name)
    version = Version(
        channel=draft.channel,
        release=release,
        made=now_s,
        by=draft.by,
        parents=draft.parents,
        data_sha256=draft.data_sha256,
        metrics=draft.metrics,
        notes=draft.notes,
    )
    return registry.add_version(version, [file.data for file in draft.files])


def compose(draft: Draft, chunk_bytes: int) -> Release:
    """Returns what nodes get of a draft; without a name, its version is empty."""
    return Release(
        pipeline=draft.pipeline,
        version=draft.name or "",
        labels=draft.labels,
        input_shape=draft.golden_inputs.shape[1:],
        scores=draft.scores,
        golden=Tensor.of(draft.golden_inputs),
        variants=tuple(_variant(file, chunk_bytes, draft.url_prefix) for file in draft.files),
    )


def tolerance(precision: Precision, golden_scores: Floats) -> float:
    """Returns the largest difference to a golden score that a node allows."""
    return GOLDEN_TOLERANCE[precision] * float(np.ptp(golden_scores))


def wire_form(artefact: Artefact, blobs: BlobStore) -> bytes:
    """Returns a file as a web server is to have it: its chunks as they travel, one after the other.

    Raises:
        StorageError: the file is damaged or gone.
    """
    return b"".join(blobs.chunk(artefact, index) for index in range(len(artefact.chunks)))


def _variant(file: ModelFile, chunk_bytes: int, url_prefix: str) -> Variant:
    digest = hashlib.sha256(file.data).hexdigest()
    url = f"{url_prefix.rstrip('/')}/{digest}" if url_prefix else ""
    return Variant(
        artefact=describe(file.data, chunk_bytes, file.precision, url=url),
        calibration=file.calibration,
        scores=Tensor.of(file.golden_scores),
        tolerance=tolerance(file.precision, file.golden_scores),
    )
