"""Versions are immutable, manifests numbered one after the other, and damage stops nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.registry import Registry
from cloud.releasing import GOLDEN_TOLERANCE, ModelFile, register
from cloud.signer import Signer, Wanted
from cloud.version import Version, decode, encode
from shared.errors import ArtefactError, ManifestError, NewerSchemaError, StorageError
from shared.model_spec import Calibration
from shared.releases.envelope import seal
from shared.releases.manifest import DOMAIN, sign_manifest
from tests.builders import (
    CERTIFICATE,
    CHANNEL,
    CHUNK_BYTES,
    EPOCH_S,
    LABELS,
    SHAPE,
    diagonal_onnx,
    manifest,
    release,
    sha256,
    trust_in,
)
from tests.cloud_rig import draft

DATA = diagonal_onnx(1.0)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def made(name: str = "1", **changes: Any) -> Version:
    whole = Version(
        channel=CHANNEL, release=release(DATA, version=name), made=EPOCH_S, by="trainer",
        parents=("meter-tier2/1",), data_sha256="ab" * 32, metrics={"coverage": 0.8},
        notes="the first",
    )  # fmt: skip
    return msgspec.structs.replace(whole, **changes)


def signed(key: Ed25519PrivateKey, seq: int, **changes: Any) -> bytes:
    return sign_manifest(manifest(DATA, seq=seq, **changes), [key])


# Versions


def test_a_version_survives_a_restart_whole_with_its_file(
    registry: Registry, tmp_path: Path
) -> None:
    registry.add_version(made(), [DATA])
    again = Registry(tmp_path / "registry")
    assert again.version(CHANNEL, "1") == made()
    assert again.blobs.has(made().release.artefacts[0])
    assert again.version(CHANNEL, "2") is None


def test_a_version_never_changes_and_the_same_once_more_is_no_change(registry: Registry) -> None:
    registry.add_version(made(), [DATA])
    assert registry.add_version(made(made=EPOCH_S + 9), [DATA]) == made()
    other = release(DATA, version="1", labels=("a", "b", "c"))
    with pytest.raises(StorageError, match="versions never change"):
        registry.add_version(made(release=other), [DATA])
    assert registry.version(CHANNEL, "1") == made()


def test_versions_are_listed_oldest_first_and_numbers_go_on_after_the_highest(
    registry: Registry,
) -> None:
    assert registry.next_name(CHANNEL) == "1"
    for name, age_s in (("10", 0), ("9", 1), ("summer", 2)):
        registry.add_version(made(name, made=EPOCH_S + age_s), [DATA])
    assert [each.name for each in registry.versions(CHANNEL)] == ["10", "9", "summer"]
    assert registry.next_name(CHANNEL) == "11"
    assert registry.versions("other") == []


def test_a_version_whose_file_is_not_here_is_not_kept(registry: Registry) -> None:
    with pytest.raises(StorageError, match="has no file"):
        registry.add_version(made())
    assert registry.version(CHANNEL, "1") is None


@pytest.mark.parametrize("name", ["", "../1", "a/b", "x" * 65])
def test_a_name_that_could_be_a_path_is_none(registry: Registry, name: str) -> None:
    with pytest.raises(ManifestError, match="is no name of a version"):
        registry.add_version(made(name), [DATA])


def test_what_no_manifest_has_room_for_is_not_kept(registry: Registry) -> None:
    inputs = np.zeros((20_000, 3), np.float32)
    with pytest.raises(ManifestError, match="Fix: fewer golden inputs"):
        register(draft(1.0, golden_inputs=inputs, files=(scored(inputs),)), registry, 64, EPOCH_S)
    assert registry.versions(CHANNEL) == []


def scored(inputs: np.ndarray[Any, Any]) -> ModelFile:
    return ModelFile(DATA, "fp32", Calibration(1.0, 0.8), inputs)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b'{"sha256": "00", "version": {}}'])
def test_a_damaged_version_is_named_put_aside_and_the_rest_is_there(
    registry: Registry, tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("1", "2"):
        registry.add_version(made(name), [DATA])
    path = tmp_path / "registry" / CHANNEL / "versions" / "2.json"
    path.write_bytes(damage)
    assert [each.name for each in registry.versions(CHANNEL)] == ["1"]
    assert str(path) in caplog.text
    assert path.with_suffix(".broken").read_bytes() == damage
    assert registry.next_name(CHANNEL) == "3"
    with pytest.raises(StorageError, match="versions never change"):
        registry.add_version(made("2"), [DATA])


def test_a_flipped_digit_of_a_threshold_does_not_pass(registry: Registry) -> None:
    data = encode(made())
    assert decode(data) == made()
    with pytest.raises(ArtefactError, match="not those that were written"):
        decode(data.replace(b'"threshold":0.8', b'"threshold":0.1'))


NEWER = "was written by a newer Escalon: its schema is 99, this one reads 1. Fix: update"


def test_a_version_of_a_newer_schema_is_said_and_stays_where_it_is(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("1", "2"):
        registry.add_version(made(name), [DATA])
    path = tmp_path / "registry" / CHANNEL / "versions" / "2.json"
    path.write_bytes(encode(made("2", schema_version=99)))
    with pytest.raises(NewerSchemaError, match=NEWER):
        registry.version(CHANNEL, "2")
    with pytest.raises(NewerSchemaError, match=r"2\.json"):
        registry.add_version(made("2"), [DATA])
    assert [each.name for each in registry.versions(CHANNEL)] == ["1"]
    assert str(path) in caplog.text
    assert path.read_bytes() == encode(made("2", schema_version=99))
    assert registry.next_name(CHANNEL) == "3"


def test_a_newer_schema_is_known_though_nothing_else_in_it_is() -> None:
    def sealed(schema: int) -> bytes:
        body = f'{{"schema_version":{schema},"release":"somewhere else"}}'
        return f'{{"sha256":"{sha256(body.encode())}","version":{body}}}'.encode()

    with pytest.raises(NewerSchemaError, match=NEWER):
        decode(sealed(99))
    with pytest.raises(ArtefactError, match="it is no version"):
        decode(sealed(1))


def test_a_name_that_is_taken_leaves_no_file(registry: Registry) -> None:
    registry.add_version(made(), [DATA])
    other = diagonal_onnx(5.0)
    with pytest.raises(StorageError, match="versions never change"):
        registry.add_version(made(release=release(other, version="1")), [other])
    assert not registry.blobs.path(sha256(other)).exists()


# Drafts


def test_a_draft_becomes_the_next_version_with_all_that_is_known_of_it(registry: Registry) -> None:
    calibration = Calibration(1.5, 0.7, CERTIFICATE)
    file = ModelFile(DATA, "int8", calibration, 4 * np.eye(3, dtype=np.float32))
    version = register(
        draft(1.0, files=(file,), parents=("a/1",), notes="hello"), registry, CHUNK_BYTES, EPOCH_S
    )
    assert registry.version(CHANNEL, "1") == version
    variant = version.release.variants[0]
    assert (version.release.labels, version.release.input_shape) == (LABELS, SHAPE)
    assert (variant.artefact.precision, variant.calibration) == ("int8", calibration)
    assert variant.tolerance == pytest.approx(4 * GOLDEN_TOLERANCE["int8"])
    assert (version.parents, version.notes, version.made) == (("a/1",), "hello", EPOCH_S)
    assert registry.blobs.path(variant.artefact.sha256).read_bytes() == DATA


def test_a_draft_that_was_kept_already_is_that_version(registry: Registry) -> None:
    first = register(draft(1.0), registry, CHUNK_BYTES, EPOCH_S)
    other = register(draft(2.0), registry, CHUNK_BYTES, EPOCH_S + 1)
    assert register(draft(1.0), registry, CHUNK_BYTES, EPOCH_S + 2) == first
    assert (first.name, other.name) == ("1", "2")


def test_a_damaged_file_is_whole_again_once_its_version_is_published_again(
    registry: Registry,
) -> None:
    version = register(draft(1.0), registry, CHUNK_BYTES, EPOCH_S)
    (artefact,) = version.release.artefacts
    registry.blobs.path(artefact.sha256).write_bytes(b"damaged")
    assert not registry.blobs.has(artefact)
    assert register(draft(1.0), registry, CHUNK_BYTES, EPOCH_S) == version
    assert registry.blobs.has(artefact)


def test_a_draft_that_does_not_fit_is_not_kept(registry: Registry) -> None:
    with pytest.raises(ManifestError, match="golden scores do not fit"):
        register(draft(1.0, labels=("one", "two")), registry, CHUNK_BYTES, EPOCH_S)
    assert registry.versions(CHANNEL) == []


# Manifests


def test_the_newest_is_the_one_with_the_highest_number(
    registry: Registry, release_key: Ed25519PrivateKey
) -> None:
    registry.add_version(made(), [DATA])
    assert (registry.newest(CHANNEL), registry.next_seq(CHANNEL)) == (None, 1)
    for seq in (1, 2, 10, 9):
        registry.add_manifest(signed(release_key, seq))
    newest = registry.newest(CHANNEL)
    assert newest is not None
    assert newest.envelope == signed(release_key, 10)
    assert registry.next_seq(CHANNEL) == 11
    assert registry.offered(CHANNEL) == {"1"}


def test_a_manifest_is_always_of_a_version_that_is_here(
    registry: Registry, release_key: Ed25519PrivateKey
) -> None:
    with pytest.raises(StorageError, match="no such version 1"):
        registry.add_manifest(signed(release_key, 1))
    registry.add_version(made(), [DATA])
    with pytest.raises(StorageError, match="no such version 1"):
        registry.add_manifest(signed(release_key, 1, labels=("x", "y", "z")))
    assert registry.newest(CHANNEL) is None


def test_a_manifest_is_never_replaced(registry: Registry, release_key: Ed25519PrivateKey) -> None:
    registry.add_version(made(), [DATA])
    kept = registry.add_manifest(signed(release_key, 1))
    with pytest.raises(StorageError, match="has a manifest 1 already"):
        registry.add_manifest(signed(release_key, 1, retry_epoch=5))
    assert registry.manifest(CHANNEL, 1) == kept


def test_a_damaged_manifest_is_put_aside_and_its_number_is_not_given_again(
    registry: Registry, release_key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    registry.add_version(made(), [DATA])
    for seq in (1, 2):
        registry.add_manifest(signed(release_key, seq))
    path = tmp_path / "registry" / CHANNEL / "2.release"
    path.write_bytes(path.read_bytes()[:-1])
    newest = registry.newest(CHANNEL)
    assert newest is not None
    assert newest.manifest.seq == 1
    assert path.with_suffix(".broken").exists()
    assert registry.next_seq(CHANNEL) == 3


def test_a_manifest_of_a_newer_schema_is_said_and_stays_where_it_is(
    registry: Registry, release_key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    registry.add_version(made(), [DATA])
    registry.add_manifest(signed(release_key, 1))
    newer = manifest(DATA, seq=2, schema_version=99)
    envelope = seal(DOMAIN, msgspec.json.encode(newer), [release_key])
    path = tmp_path / "registry" / CHANNEL / "2.release"
    path.write_bytes(envelope)
    for look in (registry.newest, lambda channel: registry.manifest(channel, 2)):
        with pytest.raises(NewerSchemaError, match=f"2.release: the manifest {NEWER}"):
            look(CHANNEL)
    assert path.read_bytes() == envelope
    assert registry.next_seq(CHANNEL) == 3


def test_a_manifest_is_looked_into_once_however_often_names_are_asked_for(
    registry: Registry,
    release_key: Ed25519PrivateKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.add_version(made(), [DATA])
    for seq in range(1, 6):
        registry.add_manifest(signed(release_key, seq))
    again = Registry(tmp_path / "registry")
    assert again.offered(CHANNEL) == {"1"}
    assert again.next_name(CHANNEL) == "2"
    read: list[Path] = []
    read_bytes = Path.read_bytes

    def noted(path: Path) -> bytes:
        read.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", noted)
    again.add_version(made("2"), [DATA])
    assert again.offered(CHANNEL) == {"1"}
    assert again.next_name(CHANNEL) == "3"
    assert [path for path in read if path.suffix == ".release"] == []
    registry.add_manifest(signed(release_key, 6, version="2"))  # by another process
    assert again.offered(CHANNEL) == {"1", "2"}
    assert [path.name for path in read if path.suffix == ".release"] == ["6.release"]


def test_the_name_of_a_version_that_is_lost_is_not_given_again(
    registry: Registry, release_key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    registry.add_version(made("7"), [DATA])
    registry.add_manifest(signed(release_key, 1, version="7"))
    (tmp_path / "registry" / CHANNEL / "versions" / "7.json").unlink()
    assert Registry(tmp_path / "registry").next_name(CHANNEL) == "8"


def test_a_lost_version_is_restored_from_a_manifest(
    registry: Registry, release_key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    registry.add_version(made(), [DATA])
    registry.add_manifest(signed(release_key, 1))
    (tmp_path / "registry" / CHANNEL / "versions" / "1.json").unlink()
    restored = registry.version(CHANNEL, "1")
    assert restored is not None
    assert restored.release == made().release
    assert (restored.by, restored.notes) == ("unknown", "restored from manifest seq 1")
    assert registry.versions(CHANNEL) == [restored]


# When another manifest is due


@pytest.mark.parametrize(
    ("trust", "changes", "when"),
    [
        pytest.param({}, {}, (0, ""), id="nothing-new"),
        pytest.param({}, {}, (59, ""), id="a-third-is-left"),
        pytest.param({}, {}, (61, "expires soon"), id="less-is-left"),
        pytest.param({"key_epoch": 2}, {}, (0, "key epoch 2 is in force"), id="epoch"),
        pytest.param({}, {"state": "halted"}, (0, "something else"), id="halted"),
        pytest.param({}, {"retry_epoch": 1}, (0, "something else"), id="retry"),
    ],
)
def test_another_manifest_is_due_when(
    registry: Registry,
    release_key: Ed25519PrivateKey,
    trust: dict[str, Any],
    changes: dict[str, Any],
    when: tuple[float, str],
) -> None:
    after_days, why = when
    registry.add_version(made(), [DATA])
    wanted = Wanted.of(manifest(DATA))
    first = Signer(release_key, trust_in(release_key), 90.0)
    assert first.why_due(None, wanted, EPOCH_S) == "there is none yet"
    newest = registry.add_manifest(first.sign(wanted, 1, EPOCH_S))
    signer = Signer(release_key, trust_in(release_key, **trust), 90.0)
    asked = Wanted.of(manifest(DATA, **changes))
    found = signer.why_due(newest, asked, EPOCH_S + after_days * 86_400)
    assert (why in found) if why else not found


def test_a_manifest_of_a_key_that_is_trusted_no_more_is_signed_anew(
    registry: Registry, release_key: Ed25519PrivateKey
) -> None:
    registry.add_version(made(), [DATA])
    wanted, other = Wanted.of(manifest(DATA)), Ed25519PrivateKey.generate()
    old = Signer(release_key, trust_in(release_key), 90.0).sign(wanted, 1, EPOCH_S)
    signer = Signer(other, trust_in(other), 90.0)
    why = signer.why_due(registry.add_manifest(old), wanted, EPOCH_S)
    assert why == "the release keys have changed"
