"""A candidate waits for whatever keeps it from the registry, and keeps nobody else waiting."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.channel import Channel
from cloud.director import Director
from cloud.registration import AGAIN_S, MAX_READS, Registration
from cloud.registry import Registry
from cloud.rollout.plan import RolloutPlan
from cloud.signer import Signer
from cloud.training.candidate import Candidate
from cloud.training.order import Report
from shared.errors import ArtefactError
from shared.model_spec import Calibration
from tests.builders import (
    CERTIFICATE,
    CHANNEL,
    CHUNK_BYTES,
    EPOCH_S,
    LABELS,
    diagonal_onnx,
    trust_in,
)
from tests.cloud_desk import TIER2

NAMES = (TIER2, CHANNEL)
BOTH = {TIER2: ["1"], CHANNEL: ["1"]}
FILES = ["tier1.onnx", "tier2.onnx", "golden.npz"]


class Rig:
    """A candidate of two models on its way into a registry."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey) -> None:
        self.registry = Registry(folder / "registry")
        signer = Signer(key, trust_in(key), 90.0)
        self.channels = {
            name: Channel(name, RolloutPlan(), folder / "rollouts", self.registry) for name in NAMES
        }
        tier2, tier1 = self.directors = [Director(each, signer) for each in self.channels.values()]
        self.candidate = candidate_in(folder / "candidate")
        self.registration = Registration(self.candidate, (tier1, tier2), self.registry, CHUNK_BYTES)
        self.now_s = 0.0

    def poll(self, after_s: float = AGAIN_S) -> bool:
        self.now_s += after_s
        return self.registration.poll(self.now_s, EPOCH_S)

    @property
    def registered(self) -> dict[str, list[str]]:
        return {name: [each.name for each in self.registry.versions(name)] for name in NAMES}

    @property
    def proposed(self) -> list[str]:
        return [director.standing for director in self.directors]


def candidate_in(folder: Path) -> Candidate:
    """Writes what a training leaves that has made both models."""
    folder.mkdir()
    inputs = np.eye(3, dtype=np.float32)
    (folder / "tier1.onnx").write_bytes(diagonal_onnx(1.0))
    (folder / "tier2.onnx").write_bytes(diagonal_onnx(2.0))
    np.savez(folder / "golden.npz", inputs=inputs, tier1=inputs, tier2=2 * inputs)
    report = Report(
        fingerprint="", calibration=Calibration(1.0, 0.8, CERTIFICATE),
        fp32_calibration=Calibration(1.0, 0.8), tier2_calibration=Calibration(1.0, 0.0),
        int8_bytes=1, fp32_bytes=1, int8_agreement=1.0, fp32_agreement=1.0,
        running_coverage=None, samples=1, seconds=0.0,
    )  # fmt: skip
    return Candidate(folder, report, "meter", LABELS)


@pytest.fixture
def rig(tmp_path: Path, release_key: Ed25519PrivateKey) -> Rig:
    return Rig(tmp_path, release_key)


def test_both_models_are_registered_and_proposed_at_once(rig: Rig) -> None:
    assert rig.poll(0.0)
    assert (rig.registered, rig.proposed) == (BOTH, ["1", "1"])
    assert rig.registration.trouble == ""


@pytest.mark.parametrize("channel", NAMES)
def test_it_waits_for_a_channel_that_another_process_holds(
    rig: Rig, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    said = f"another process still holds the rollout of {channel}"
    with rig.channels[channel].lock.claimed():
        assert not any(rig.poll() for _ in range(50))
        assert said in rig.registration.trouble
        assert rig.registered[CHANNEL] == []
    assert caplog.text.count(said) == 1
    assert rig.poll()
    assert (rig.registered, rig.proposed) == (BOTH, ["1", "1"])
    tier1 = rig.registry.version(CHANNEL, "1")
    assert tier1 is not None
    assert tier1.parents == ()  # when it was trained, nothing stood


def test_between_two_tries_there_is_a_pause(rig: Rig) -> None:
    with rig.channels[TIER2].lock.claimed():
        assert not rig.poll()
    assert not any(rig.poll(AGAIN_S / 8) for _ in range(7))
    assert rig.registered[TIER2] == []
    assert rig.poll(AGAIN_S / 8)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=errno.errorcode.get)
def test_it_waits_for_a_disk_that_takes_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fails(*_: object) -> None:
        raise OSError(number, "the disk")

    with monkeypatch.context() as disk:
        disk.setattr("os.fsync", fails)
        assert not any(rig.poll() for _ in range(5 * MAX_READS))
    assert "the disk. Fix:" in rig.registration.trouble
    assert rig.registered == {TIER2: [], CHANNEL: []}
    assert rig.poll()
    assert (rig.registered, rig.proposed) == (BOTH, ["1", "1"])


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_cannot_be_read_for_a_while_is_waited_for(rig: Rig, file: str) -> None:
    path = rig.candidate.folder / file
    path.rename(path.with_suffix(".aside"))
    assert not any(rig.poll() for _ in range(MAX_READS - 1))
    assert f"cannot read {path}" in rig.registration.trouble
    path.with_suffix(".aside").rename(path)
    assert rig.poll()
    assert rig.registered == BOTH


def lost(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGE: dict[str, tuple[str, Callable[[Path], None]]] = {
    **{f"{file}-lost": (file, lost) for file in FILES},
    "golden.npz-truncated": ("golden.npz", truncated),
    "golden.npz-flipped": ("golden.npz", flipped),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_folder_that_is_damaged_for_good_is_put_aside_and_said(rig: Rig, kind: str) -> None:
    file, damage = DAMAGE[kind]
    folder = rig.candidate.folder
    damage(folder / file)
    (folder.parent / "candidate.broken").mkdir()  # of another time
    assert not any(rig.poll() for _ in range(MAX_READS - 1))
    with pytest.raises(ArtefactError, match=r"candidate\.broken is given up: cannot read"):
        rig.poll()
    assert rig.registered[CHANNEL] == []
    assert not folder.exists()
    assert list((folder.parent / "candidate.broken").iterdir())
