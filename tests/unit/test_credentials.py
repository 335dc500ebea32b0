"""Keys change while the cloud runs, and nothing that is wrong with their files takes any away."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.credentials import LOOK_S, MAX_KEY_BYTES, Credentials
from escalon.cli import main
from escalon.keys.folder import KeyFolder
from shared.errors import ConfigError, StorageError
from shared.releases import trust_store
from shared.releases.keys import key_id_of, new_key_pem, public_hex
from shared.releases.trust import MAX_TRUST_BYTES, open_first, sign_trust


class Rig:
    """The folder of a fleet's keys, and a cloud that was given copies of two of its files."""

    def __init__(self, folder: Path) -> None:
        self.keys = KeyFolder(folder / "keys")
        self.trust, self.key = folder / "trust.signed", folder / "release.key"
        self.state = folder / "state"
        self.run("init")
        self.install()
        self.credentials = self.started()
        self.now_s = 0.0
        assert self.looks() == 0

    def run(self, command: str, *more: str) -> None:
        assert main(["keys", command, str(self.keys.path), *more]) == 0

    def revoke(self) -> None:
        self.run("revoke", key_id_of(self.keys.trust().releases.keys[0]))

    def install(self) -> None:
        """Gives the cloud the newest files."""
        shutil.copy(self.keys.trust_path, self.trust)
        shutil.copy(self.keys.release_key_path, self.key)

    def started(self) -> Credentials:
        credentials = Credentials(self.trust, self.key, self.state)
        credentials.load()
        return credentials

    def look(self) -> bool:
        self.now_s += LOOK_S
        return self.credentials.look(self.now_s)

    def looks(self) -> int:
        """Looks some times; returns how often something else came into force."""
        return sum(self.look() for _ in range(5))

    @property
    def in_force(self) -> tuple[int, int]:
        trust = self.credentials.trust
        assert public_hex(self.credentials.key) in trust.releases.keys
        return trust.version, trust.key_epoch


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_rotation_and_a_revocation_come_into_force_once_each(rig: Rig) -> None:
    rig.run("rotate")
    rig.install()
    assert (rig.looks(), rig.in_force) == (1, (2, 1))
    rig.revoke()
    rig.install()
    assert (rig.looks(), rig.in_force) == (1, (3, 2))
    assert list(rig.credentials.envelopes) == [1, 2, 3]
    again = rig.started()
    assert (again.trust, again.envelopes) == (rig.credentials.trust, rig.credentials.envelopes)


def test_new_root_keys_come_into_force_with_the_same_release_key(rig: Rig) -> None:
    rig.run("rotate", "--root", "2")
    shutil.copy(rig.keys.trust_path, rig.trust)
    assert (rig.looks(), rig.in_force) == (1, (2, 1))


def test_files_are_looked_at_now_and_then(rig: Rig) -> None:
    rig.run("rotate")
    rig.install()
    assert not any(rig.credentials.look(rig.now_s + LOOK_S / 2) for _ in range(5))
    assert rig.looks() == 1


def test_a_file_that_is_being_written_is_left_alone_until_it_rests(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.run("rotate")
    whole = rig.keys.trust_path.read_bytes()
    for size in range(0, len(whole), 100):
        rig.trust.write_bytes(whole[:size])
        assert not rig.look()
    assert caplog.text == ""
    rig.install()
    assert rig.looks() == 1


def stranger(rig: Rig) -> bytes:
    return sign_trust(open_first(rig.keys.trust_path.read_bytes()), [Ed25519PrivateKey.generate()])


def two_versions_on(rig: Rig) -> bytes:
    rig.run("rotate")
    return rig.keys.trust_path.read_bytes()


BAD_TRUST: dict[str, tuple[Callable[[Rig], bytes], str]] = {
    "garbage": (lambda rig: b"trust me", "is not trust version 2"),
    "empty": (lambda rig: b"", "is not trust version 2"),
    "a-strangers": (stranger, "is not trust version 2"),
    "two-versions-on": (two_versions_on, "version 3 does not follow version 1. Fix: put that "),
    "too-large": (lambda rig: bytes(MAX_TRUST_BYTES + 1), "has more than 32768 bytes"),
}


@pytest.mark.parametrize("kind", BAD_TRUST)
def test_what_is_not_the_next_version_is_said_once_and_changes_nothing(
    rig: Rig, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig.run("rotate")
    second = rig.keys.trust_path.read_bytes(), rig.keys.release_key_path.read_bytes()
    make, said = BAD_TRUST[kind]
    rig.trust.write_bytes(make(rig))
    assert (rig.looks(), rig.in_force) == (0, (1, 1))
    assert said in rig.credentials.trouble
    assert str(rig.trust) in rig.credentials.trouble
    assert rig.credentials.trouble.endswith("Trust version 1 stays in force")
    assert caplog.text.count(rig.credentials.trouble) == 1
    assert [path.name for path in (rig.state / "trust").iterdir()] == ["1.trust"]
    rig.trust.write_bytes(second[0])
    rig.key.write_bytes(second[1])
    assert (rig.looks(), rig.in_force, rig.credentials.trouble) == (1, (2, 1), "")


BAD_KEYS = {
    "of-the-version-before": (None, "not among the release keys of trust version 2"),
    "a-strangers": (new_key_pem(), "not among the release keys of trust version 2"),
    "garbage": (b"key", "is no private key in PEM"),
    "too-large": (bytes(MAX_KEY_BYTES + 1), "bytes. Fix: "),
}


@pytest.mark.parametrize("kind", BAD_KEYS)
def test_a_version_waits_for_its_release_key(rig: Rig, kind: str) -> None:
    rig.run("rotate")
    shutil.copy(rig.keys.trust_path, rig.trust)
    data, said = BAD_KEYS[kind]
    if data is not None:
        rig.key.write_bytes(data)
    assert (rig.looks(), rig.in_force) == (0, (1, 1))
    assert said in rig.credentials.trouble
    assert str(rig.key) in rig.credentials.trouble
    assert not (rig.state / "trust" / "2.trust").exists()
    rig.install()
    assert (rig.looks(), rig.in_force, rig.credentials.trouble) == (1, (2, 1), "")


@pytest.mark.parametrize("name", ["trust.signed", "release.key"])
def test_a_file_that_is_gone_is_said_until_it_is_back(rig: Rig, tmp_path: Path, name: str) -> None:
    (tmp_path / name).rename(tmp_path / "aside")
    assert (rig.looks(), rig.in_force) == (0, (1, 1))
    assert f"cannot read {tmp_path / name}" in rig.credentials.trouble
    (tmp_path / "aside").rename(tmp_path / name)
    assert (rig.looks(), rig.in_force, rig.credentials.trouble) == (0, (1, 1), "")


def test_a_version_that_the_disk_does_not_take_comes_into_force_once_it_does(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("no space left")

    rig.run("rotate")
    rig.install()
    with monkeypatch.context() as disk:
        disk.setattr(trust_store, "write_durably", full)
        assert (rig.looks(), rig.in_force) == (0, (1, 1))
    assert "no space left" in rig.credentials.trouble
    assert (rig.looks(), rig.in_force, rig.credentials.trouble) == (1, (2, 1), "")


def test_an_older_version_with_the_key_in_force_takes_nothing_back(rig: Rig) -> None:
    first = rig.trust.read_bytes()
    rig.run("rotate")
    rig.install()
    assert rig.looks() == 1
    rig.trust.write_bytes(first)
    assert (rig.looks(), rig.in_force, rig.credentials.trouble) == (0, (2, 1), "")


def test_a_cloud_does_not_start_with_a_key_that_nobody_would_trust(rig: Rig) -> None:
    rig.key.write_bytes(new_key_pem())
    with pytest.raises(ConfigError, match="it is not among the release keys"):
        rig.started()
