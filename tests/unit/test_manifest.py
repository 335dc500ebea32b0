"""A manifest that contradicts itself is refused, though it is rightly signed."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from shared.errors import ManifestError
from shared.messages import Tensor
from shared.model_spec import Calibration
from shared.releases.manifest import (
    MAX_CHUNK_BYTES,
    MAX_LABELS,
    Artefact,
    Golden,
    Manifest,
    parse_manifest,
)
from tests.builders import CHANNEL, LABELS, diagonal_onnx, golden, manifest

SOUND = manifest(diagonal_onnx(1.0))
TENSOR = Tensor.of(np.zeros((2, 4), np.float32))


def artefact(**changes: Any) -> Artefact:
    return msgspec.structs.replace(SOUND.artefact, **changes)


def golden_with(**changes: Any) -> Golden:
    return msgspec.structs.replace(golden(1.0), **changes)


def read_back(value: Manifest) -> Manifest:
    return parse_manifest(msgspec.json.encode(value))


def test_a_sound_manifest_is_read_back_whole() -> None:
    assert read_back(SOUND) == SOUND


def test_the_model_it_describes_carries_channel_version_digest_and_calibration() -> None:
    spec = SOUND.model_spec()
    assert (spec.name, spec.version) == (CHANNEL, "1")
    assert spec.sha256 == SOUND.artefact.sha256
    assert spec.calibration == SOUND.calibration


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"schema_version": 2}, "schema is newer", id="newer-schema"),
        pytest.param({"seq": 0}, "seq is below 1", id="seq"),
        pytest.param({"artefact": artefact(sha256="abc")}, "not SHA-256", id="digest"),
        pytest.param(
            {"artefact": artefact(sha256=f"../{SOUND.artefact.sha256[3:]}")},
            "not SHA-256",
            id="digest-that-is-a-path",
        ),
        pytest.param(
            {"artefact": artefact(sha256=SOUND.artefact.sha256 + "\n")},
            "not SHA-256",
            id="digest-with-a-newline",
        ),
        pytest.param(
            {"artefact": artefact(chunks=("", *SOUND.artefact.chunks[1:]))},
            "not SHA-256",
            id="chunk-digest",
        ),
        pytest.param(
            {"artefact": artefact(chunk_bytes=MAX_CHUNK_BYTES + 1)},
            "larger than 64 KiB",
            id="large-chunks",
        ),
        pytest.param({"artefact": artefact(chunk_bytes=0)}, "do not fit", id="no-chunk-size"),
        pytest.param({"artefact": artefact(chunk_bytes=-64)}, "do not fit", id="negative-chunks"),
        pytest.param({"artefact": artefact(size=0, chunks=())}, "do not fit", id="empty"),
        pytest.param({"artefact": artefact(size=-5)}, "do not fit", id="negative-size"),
        pytest.param({"artefact": artefact(size=10**9)}, "do not fit", id="too-few-chunks"),
        pytest.param(
            {"artefact": artefact(chunks=SOUND.artefact.chunks * 2)}, "do not fit", id="too-many"
        ),
        pytest.param({"labels": ("one",)}, "number of labels", id="one-label"),
        pytest.param(
            {"labels": ("x",) * (MAX_LABELS + 1)}, "number of labels", id="too-many-labels"
        ),
        pytest.param({"calibration": Calibration(0.0, 0.5)}, "temperature", id="temperature-zero"),
        pytest.param(
            {"calibration": Calibration(-1.0, 0.5)}, "temperature", id="temperature-below"
        ),
        pytest.param({"calibration": Calibration(1.0, -0.1)}, "threshold", id="threshold"),
        pytest.param(
            {"scores": "probabilities", "calibration": Calibration(1.0, 4.5, score="energy")},
            "energy needs logits",
            id="energy-of-probabilities",
        ),
        pytest.param(
            {"golden": golden_with(tolerance=0.0)}, "golden tolerance", id="tolerance-zero"
        ),
        pytest.param(
            {"golden": golden_with(inputs=TENSOR)}, "golden inputs do not fit", id="golden-inputs"
        ),
        pytest.param(
            {"golden": golden_with(scores=TENSOR)}, "golden scores do not fit", id="golden-scores"
        ),
        pytest.param({"input_shape": (4,)}, "golden inputs do not fit", id="other-input-shape"),
        pytest.param(
            {"labels": (*LABELS, "four")}, "golden scores do not fit", id="other-number-of-labels"
        ),
    ],
)
def test_a_contradiction_is_named(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ManifestError, match=problem):
        read_back(msgspec.structs.replace(SOUND, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"calibration": Calibration(math.inf, 0.5)}, id="temperature"),
        pytest.param({"calibration": Calibration(1.0, math.nan)}, id="threshold"),
        pytest.param({"golden": golden_with(tolerance=math.inf)}, id="tolerance"),
        pytest.param({"expires": math.nan}, id="expires"),
    ],
)
def test_nan_and_infinity_cannot_be_said_in_json(changes: dict[str, Any]) -> None:
    # They become null, which is no number.
    with pytest.raises(ManifestError, match="no manifest"):
        read_back(msgspec.structs.replace(SOUND, **changes))


@pytest.mark.parametrize("threshold", [-4.5, 0.0, 12.0])
def test_a_threshold_of_energy_is_any_number(threshold: float) -> None:
    calibration = Calibration(1.0, threshold, score="energy")
    manifest = msgspec.structs.replace(SOUND, calibration=calibration)
    assert read_back(manifest).calibration == calibration


def test_a_manifest_of_before_there_were_scores_holds_the_largest_probability() -> None:
    fields = msgspec.to_builtins(SOUND)
    del fields["calibration"]["score"]
    assert parse_manifest(msgspec.json.encode(fields)).calibration.score == "max_probability"
