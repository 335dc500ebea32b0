"""``escalon keys``: a fleet's keys are founded, rotated and revoked, and never overwritten."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from escalon.cli import main
from escalon.keys.folder import KeyFolder
from shared.releases.keys import key_id_of, load_private_key, public_hex
from shared.releases.trust import Trust, open_first, open_next


def keys(*arguments: str | Path) -> int:
    return main(["keys", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The keys of a fleet that was just founded; two of three root keys must sign."""
    assert keys("init", tmp_path / "keys", "--root", "3", "--threshold", "2") == 0
    return tmp_path / "keys"


def document(folder: Path, version: int) -> bytes:
    return (folder / f"trust-{version}.signed").read_bytes()


def release_key(folder: Path) -> str:
    """Returns the public half of the key that the cloud is given."""
    return public_hex(load_private_key((folder / "release.key").read_bytes()))


def newest(folder: Path) -> Trust:
    return KeyFolder(folder).trust()


def test_a_fleet_is_founded_with_keys_that_only_their_owner_reads(folder: Path) -> None:
    trust = newest(folder)
    assert (trust.version, trust.root.threshold, len(trust.root.keys)) == (1, 2, 3)
    assert trust.releases.keys == (release_key(folder),)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.key")}
    assert set(modes.values()) == {0o600}
    assert {"root-1.key", "root-2.key", "root-3.key", "release.key"} <= modes.keys()


def test_keys_that_are_there_are_never_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert keys("init", folder) == 1
    assert "belongs to a fleet already. Fix:" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_rotation_puts_another_release_key_in_force_and_follows_the_last_version(
    folder: Path,
) -> None:
    old = release_key(folder)
    assert keys("rotate", folder) == 0
    after = open_next(document(folder, 2), open_first(document(folder, 1)))
    assert after.releases.keys == (release_key(folder),)
    assert old not in after.releases.keys
    assert after.key_epoch == 1


def test_other_root_keys_are_signed_by_the_old_and_the_new_ones_and_sign_from_then_on(
    folder: Path,
) -> None:
    assert keys("rotate", folder, "--root", "2", "--threshold", "2") == 0
    for old in range(1, 4):
        (folder / f"root-{old}.key").unlink()
    assert keys("rotate", folder) == 0
    second = open_next(document(folder, 2), open_first(document(folder, 1)))
    third = open_next(document(folder, 3), second)
    assert len(third.root.keys) == 2
    assert not set(third.root.keys) & set(open_first(document(folder, 1)).root.keys)


def test_a_stolen_key_is_taken_out_in_a_new_epoch(folder: Path) -> None:
    stolen = release_key(folder)
    assert keys("revoke", folder, key_id_of(stolen)[:6]) == 0
    after = open_next(document(folder, 2), open_first(document(folder, 1)))
    assert after.key_epoch == 2
    assert after.releases.keys == (release_key(folder),)
    assert stolen not in after.releases.keys


def test_a_key_that_is_not_known_is_not_revoked_and_the_known_ones_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(folder.iterdir())
    assert keys("revoke", folder, "zz") == 1
    assert key_id_of(release_key(folder)) in capsys.readouterr().err
    assert sorted(folder.iterdir()) == files
    assert newest(folder).version == 1


def test_without_enough_root_keys_nothing_is_signed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (2, 3):
        (folder / f"root-{number}.key").replace(tmp_path / f"stick-{number}.key")
    assert keys("rotate", folder) == 1
    assert "1 of the 2 root keys that it takes" in capsys.readouterr().err
    assert newest(folder).version == 1
    assert keys("rotate", folder, "--root-key", tmp_path / "stick-3.key") == 0
    assert newest(folder).version == 2


def test_one_root_key_given_twice_counts_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (2, 3):
        (folder / f"root-{number}.key").unlink()
    assert keys("rotate", folder, "--root-key", folder / "root-1.key") == 1
    assert "root keys that it takes" in capsys.readouterr().err


def test_one_old_root_key_given_twice_keeps_no_other_from_signing(
    folder: Path, tmp_path: Path
) -> None:
    stick = tmp_path / "stick.key"
    (folder / "root-2.key").replace(stick)
    (folder / "root-3.key").unlink()
    given = ("--root-key", folder / "root-1.key", "--root-key", stick)
    assert keys("rotate", folder, "--root", "3", "--threshold", "2", *given) == 0
    assert open_next(document(folder, 2), open_first(document(folder, 1))).root.threshold == 2


def test_more_signatures_than_a_node_reads_are_refused_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.iterdir())
    assert keys("rotate", folder, "--root", "15") == 1
    assert "17 signatures" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before
    assert keys("rotate", folder, "--root", "14") == 0
    assert len(newest(folder).root.keys) == 14


def test_a_threshold_that_the_keys_cannot_reach_leaves_nothing_behind(tmp_path: Path) -> None:
    assert keys("init", tmp_path / "keys", "--root", "2", "--threshold", "3") == 1
    assert keys("init", tmp_path / "keys", "--root", "2", "--threshold", "2") == 0


def test_a_threshold_without_new_root_keys_is_an_error_of_the_command_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        keys("rotate", folder, "--threshold", "3")
    assert "give --root N as well" in capsys.readouterr().err
    assert newest(folder).version == 1


def test_the_document_is_printed_for_programs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert keys("show", folder, "--json") == 0
    assert msgspec.json.decode(capsys.readouterr().out, type=Trust) == newest(folder)


@pytest.mark.parametrize("damage", [b"", b"no document"])
def test_a_damaged_trust_file_is_named(
    folder: Path, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "trust.signed").write_bytes(damage)
    assert keys("show", folder) == 1
    assert "trust.signed cannot be used" in capsys.readouterr().err
