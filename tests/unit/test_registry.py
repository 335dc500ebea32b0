"""Releases are immutable, signed, and numbered one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.config import CloudPipelineConfig, TrainingConfig
from cloud.registry import Registry
from cloud.releasing import DAY_S, GOLDEN_TOLERANCE, Draft, Releaser
from shared.config import InputConfig
from shared.errors import ManifestError, StorageError
from shared.model_spec import Calibration
from shared.releases.manifest import open_manifest, sign_manifest
from tests.builders import (
    CERTIFICATE,
    CHANNEL,
    EPOCH_S,
    LABELS,
    SHAPE,
    diagonal_onnx,
    file_of,
    manifest,
    trust_in,
)

DATA = diagonal_onnx(1.0)


@pytest.fixture
def registry(tmp_path: Path, release_key: Ed25519PrivateKey) -> Registry:
    return Registry(tmp_path / "registry")


def signed(key: Ed25519PrivateKey, seq: int, **changes: Any) -> bytes:
    return sign_manifest(manifest(DATA, seq=seq, **changes), [key])


def test_the_latest_is_the_one_with_the_highest_number(
    registry: Registry, release_key: Ed25519PrivateKey
) -> None:
    assert registry.latest(CHANNEL) is None
    for seq in (1, 2, 10, 9):
        registry.add(signed(release_key, seq), [DATA])
    latest = registry.latest(CHANNEL)
    assert latest is not None
    assert latest.manifest.seq == 10
    assert latest.envelope == signed(release_key, 10)
    assert registry.latest("other") is None


def test_a_release_is_never_replaced(registry: Registry, release_key: Ed25519PrivateKey) -> None:
    registry.add(signed(release_key, 1), [DATA])
    with pytest.raises(StorageError, match="has a release 1 already"):
        registry.add(signed(release_key, 1, version="another"), [DATA])
    kept = registry.get(CHANNEL, 1)
    assert kept is not None
    assert kept.manifest.release.version == "1"


def test_a_release_survives_a_restart_with_its_artefact(
    registry: Registry, release_key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    added = registry.add(signed(release_key, 1), [DATA])
    again = Registry(tmp_path / "registry")
    assert again.latest(CHANNEL) == added
    assert again.blobs.has(file_of(added.manifest))


def test_a_release_that_the_disk_changed_is_not_given(
    registry: Registry, release_key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    registry.add(signed(release_key, 1), [DATA])
    path = tmp_path / "registry" / CHANNEL / "1.release"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ManifestError):
        registry.latest(CHANNEL)


def test_a_manifest_whose_file_is_not_here_is_not_kept(
    registry: Registry, release_key: Ed25519PrivateKey
) -> None:
    with pytest.raises(StorageError, match="has no file"):
        registry.add(signed(release_key, 1), [DATA + b"another"])
    assert registry.latest(CHANNEL) is None


def test_a_second_manifest_of_a_file_brings_no_file(
    registry: Registry, release_key: Ed25519PrivateKey
) -> None:
    registry.add(signed(release_key, 1), [DATA])
    registry.add(signed(release_key, 2))
    assert registry.blobs.has(file_of(manifest(DATA)))


# Releasing


@pytest.fixture
def config(tmp_path: Path) -> CloudPipelineConfig:
    return CloudPipelineConfig(
        input=InputConfig(shape=SHAPE),
        labels=LABELS,
        tier1_channel=CHANNEL,
        tier2_channel="meter-tier2",
        training=TrainingConfig(base=tmp_path, first_job=tmp_path),
    )


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    inputs = 4 * np.eye(3, dtype=np.float32)
    (tmp_path / "tier1.onnx").write_bytes(DATA)
    np.savez(tmp_path / "golden.npz", inputs=inputs, tier1=inputs)
    return Draft(
        "meter", CHANNEL, tmp_path / "tier1.onnx", "int8",
        Calibration(1.5, 0.7, CERTIFICATE), tmp_path / "golden.npz", "tier1",
    )  # fmt: skip


@pytest.fixture
def releaser(registry: Registry, release_key: Ed25519PrivateKey) -> Releaser:
    return Releaser(registry, release_key, trust_in(release_key), 1024, release_days=2.0)


def test_a_draft_becomes_the_next_signed_release_of_its_channel(
    releaser: Releaser,
    registry: Registry,
    release_key: Ed25519PrivateKey,
    config: CloudPipelineConfig,
    draft: Draft,
) -> None:
    first = releaser.release(draft, config, EPOCH_S)
    second = releaser.release(draft, config, EPOCH_S)
    assert [each.manifest.seq for each in (first, second)] == [1, 2]
    assert registry.latest(CHANNEL) == second
    described = open_manifest(first.envelope, trust_in(release_key).releases)
    made = described.release
    assert (made.labels, made.input_shape, made.pipeline) == (LABELS, SHAPE, "meter")
    assert described.expires == EPOCH_S + 2 * DAY_S
    assert made.variants[0].calibration == draft.calibration
    assert registry.blobs.path(file_of(described).sha256).read_bytes() == DATA
    assert file_of(described).precision == "int8"
    assert made.variants[0].tolerance == pytest.approx(4 * GOLDEN_TOLERANCE["int8"])


def test_a_draft_that_does_not_fit_the_pipeline_is_not_released(
    releaser: Releaser, registry: Registry, config: CloudPipelineConfig, draft: Draft
) -> None:
    other = config.model_copy(update={"labels": ("one", "two")})
    with pytest.raises(ManifestError, match="golden scores do not fit"):
        releaser.release(draft, other, EPOCH_S)
    assert registry.latest(CHANNEL) is None


@pytest.mark.parametrize("gone", ["tier1.onnx", "golden.npz"])
def test_a_draft_without_its_files_is_an_error_of_storage(
    releaser: Releaser, config: CloudPipelineConfig, draft: Draft, tmp_path: Path, gone: str
) -> None:
    (tmp_path / gone).unlink()
    with pytest.raises(StorageError, match="cannot read"):
        releaser.release(draft, config, EPOCH_S)
