"""A manifest that contradicts itself is refused, though it is rightly signed."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import ManifestError
from shared.messages import Tensor
from shared.model_spec import Calibration
from shared.releases.artefact import MAX_CHUNK_BYTES, Artefact
from shared.releases.envelope import seal
from shared.releases.manifest import (
    DOMAIN,
    MAX_REASON,
    Manifest,
    Void,
    read_manifest,
    sign_manifest,
)
from shared.releases.release import MAX_LABELS, MAX_VARIANTS, Needs
from shared.releases.rollout import Rollout
from tests.builders import CHANNEL, LABELS, diagonal_onnx, file_of, manifest, variant

KEY = Ed25519PrivateKey.generate()
DATA = diagonal_onnx(1.0)
SOUND = manifest(DATA)
FILE = file_of(SOUND)
TENSOR = Tensor.of(np.zeros((2, 4), np.float32))


def of_file(**changes: Any) -> dict[str, Any]:
    """Returns the release's one variant, with another artefact."""
    artefact: Artefact = msgspec.structs.replace(FILE, **changes)
    return {"variants": (variant(DATA, artefact=artefact),)}


def of_variant(**changes: Any) -> dict[str, Any]:
    """Returns the release's one variant, changed."""
    return {"variants": (variant(DATA, **changes),)}


def read_back(value: Manifest) -> Manifest:
    return read_manifest(seal(DOMAIN, msgspec.json.encode(value), [KEY]))


def test_a_sound_manifest_is_read_back_whole() -> None:
    assert read_back(SOUND) == SOUND
    assert read_manifest(sign_manifest(SOUND, [KEY])) == SOUND


def test_a_void_certificate_is_read_back_and_one_from_before_is_not_void() -> None:
    void = Void(reason="the inputs have changed", since=1_700_000_000.0)
    assert read_back(msgspec.structs.replace(SOUND, void=void)).void == void
    old = msgspec.json.decode(msgspec.json.encode(SOUND))
    del old["void"]
    assert read_manifest(seal(DOMAIN, msgspec.json.encode(old), [KEY])) == SOUND


def test_the_model_it_describes_carries_channel_version_digest_and_calibration() -> None:
    spec = SOUND.model_spec(FILE.sha256)
    assert (spec.name, spec.version) == (CHANNEL, "1")
    assert spec.sha256 == FILE.sha256
    assert spec.calibration == SOUND.release.variants[0].calibration


def test_a_file_that_the_release_does_not_have_has_no_model() -> None:
    with pytest.raises(ManifestError, match="version 1 has no file"):
        SOUND.model_spec("0" * 64)


def test_each_file_of_a_release_has_its_own_calibration() -> None:
    small = variant(diagonal_onnx(2.0), calibration=Calibration(2.0, 0.9))
    both = manifest(DATA, variants=(variant(DATA), small))
    assert read_back(both).model_spec(small.artefact.sha256).calibration == Calibration(2.0, 0.9)
    assert both.model_spec(FILE.sha256).calibration == variant(DATA).calibration


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param(
            {"schema_version": 2}, "by a newer Escalon: its schema is 2", id="newer-schema"
        ),
        pytest.param({"seq": 0}, "seq is below 1", id="seq"),
        pytest.param({"key_epoch": 0}, "key epoch is below 1", id="key-epoch"),
        pytest.param({"retry_epoch": -1}, "retry epoch is below 0", id="retry-epoch"),
        pytest.param(
            {"void": Void(reason="x" * (MAX_REASON + 1), since=1.0)},
            "more than 500 characters",
            id="void-reason",
        ),
        pytest.param({"variants": ()}, "number of its files", id="no-file"),
        pytest.param(
            {"variants": tuple(variant(bytes([n])) for n in range(MAX_VARIANTS + 1))},
            "number of its files",
            id="too-many-files",
        ),
        pytest.param({"variants": (variant(DATA),) * 2}, "stands in it twice", id="file-twice"),
        pytest.param({"needs": Needs(runtime="new")}, "no version", id="runtime"),
        pytest.param({"rollout": Rollout(id="x", salt="s", share=1.5)}, "share", id="share"),
        pytest.param(of_file(sha256="abc"), "not SHA-256", id="digest"),
        pytest.param(
            of_file(sha256=f"../{FILE.sha256[3:]}"),
            "not SHA-256",
            id="digest-that-is-a-path",
        ),
        pytest.param(
            of_file(sha256=FILE.sha256 + "\n"),
            "not SHA-256",
            id="digest-with-a-newline",
        ),
        pytest.param(
            of_file(chunks=("", *FILE.chunks[1:])),
            "not SHA-256",
            id="chunk-digest",
        ),
        pytest.param(
            of_file(chunk_bytes=MAX_CHUNK_BYTES + 1),
            "larger than 64 KiB",
            id="large-chunks",
        ),
        pytest.param(of_file(chunk_bytes=0), "do not fit", id="no-chunk-size"),
        pytest.param(of_file(chunk_bytes=-64), "do not fit", id="negative-chunks"),
        pytest.param(of_file(size=0, chunks=()), "do not fit", id="empty"),
        pytest.param(of_file(size=-5), "do not fit", id="negative-size"),
        pytest.param(of_file(size=10**9), "do not fit", id="too-few-chunks"),
        pytest.param(of_file(chunks=FILE.chunks * 2), "do not fit", id="too-many"),
        pytest.param({"labels": ("one",)}, "number of labels", id="one-label"),
        pytest.param(
            {"labels": ("x",) * (MAX_LABELS + 1)}, "number of labels", id="too-many-labels"
        ),
        pytest.param(
            of_variant(calibration=Calibration(0.0, 0.5)), "temperature", id="temperature-zero"
        ),
        pytest.param(
            of_variant(calibration=Calibration(-1.0, 0.5)), "temperature", id="temperature-below"
        ),
        pytest.param(of_variant(calibration=Calibration(1.0, -0.1)), "threshold", id="threshold"),
        pytest.param(
            {"scores": "probabilities"}
            | of_variant(calibration=Calibration(1.0, 4.5, score="energy")),
            "energy needs logits",
            id="energy-of-probabilities",
        ),
        pytest.param(of_variant(tolerance=0.0), "golden tolerance", id="tolerance-zero"),
        pytest.param({"golden": TENSOR}, "golden inputs do not fit", id="golden-inputs"),
        pytest.param(of_variant(scores=TENSOR), "golden scores do not fit", id="golden-scores"),
        pytest.param({"input_shape": (4,)}, "golden inputs do not fit", id="other-input-shape"),
        pytest.param(
            {"labels": (*LABELS, "four")}, "golden scores do not fit", id="other-number-of-labels"
        ),
    ],
)
def test_a_contradiction_is_named(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ManifestError, match=problem):
        read_back(manifest(DATA, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(of_variant(calibration=Calibration(math.inf, 0.5)), id="temperature"),
        pytest.param(of_variant(calibration=Calibration(1.0, math.nan)), id="threshold"),
        pytest.param(of_variant(tolerance=math.inf), id="tolerance"),
        pytest.param({"expires": math.nan}, id="expires"),
    ],
)
def test_nan_and_infinity_cannot_be_said_in_json(changes: dict[str, Any]) -> None:
    # They become null, which is no number.
    with pytest.raises(ManifestError, match="no manifest"):
        read_back(manifest(DATA, **changes))


@pytest.mark.parametrize("threshold", [-4.5, 0.0, 12.0])
def test_a_threshold_of_energy_is_any_number(threshold: float) -> None:
    calibration = Calibration(1.0, threshold, score="energy")
    read = read_back(manifest(DATA, **of_variant(calibration=calibration)))
    assert read.release.variants[0].calibration == calibration


def test_a_manifest_that_names_no_score_holds_the_largest_probability() -> None:
    fields = msgspec.to_builtins(SOUND)
    del fields["release"]["variants"][0]["calibration"]["score"]
    read = read_manifest(seal(DOMAIN, msgspec.json.encode(fields), [KEY]))
    assert read.release.variants[0].calibration.score == "max_probability"
