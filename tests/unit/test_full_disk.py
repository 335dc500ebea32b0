"""A disk that is full, read-only or broken costs the fetch, never what is whole."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.errors import StorageError
from shared.releases.blobs import BlobStore, chunked, describe
from shared.releases.packing import pack_chunk

CHUNK_BYTES = 2**16
OLD = os.urandom(3 * CHUNK_BYTES)
RAW = bytes(each & 0x1F for each in os.urandom(24 * CHUNK_BYTES))
PLAIN = describe(RAW, CHUNK_BYTES, "int8", may_pack=False)
PACKED = describe(RAW, CHUNK_BYTES, "int8")
DISK_BYTES = 2 * 2**20


def mounted(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB of its own, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if not Path(mount[0]).exists() or not mounted(mount):
        pytest.skip("this user may not mount a small disk")
    yield folder
    subprocess.run(["/bin/umount", "-l", str(folder)], check=True)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_artefact_that_has_no_room_is_refused_before_its_first_chunk(small_disk: Path) -> None:
    blobs = BlobStore(small_disk)
    old = blobs.add(OLD)
    (small_disk / "others").write_bytes(bytes(2**20))
    before = files(small_disk)
    with pytest.raises(StorageError, match=r"No space left on device\. Fix: free some room"):
        blobs.add_chunk(PLAIN, 0, RAW[:CHUNK_BYTES])
    assert files(small_disk) == before
    assert blobs.has(describe(OLD, CHUNK_BYTES, "fp32"))
    (small_disk / "others").unlink()
    for index, part in enumerate(chunked(RAW, CHUNK_BYTES)):
        blobs.add_chunk(PLAIN, index, part)
    blobs.assemble(PLAIN)
    assert files(small_disk) == {f"blobs/{old}", f"blobs/{PLAIN.sha256}"}


def test_a_disk_that_fills_up_while_unpacking_leaves_the_chunks_and_no_whole(
    small_disk: Path,
) -> None:
    blobs = BlobStore(small_disk)
    for index, part in enumerate(chunked(RAW, CHUNK_BYTES)):
        blobs.add_chunk(PACKED, index, pack_chunk(part))
    (small_disk / "others").write_bytes(bytes(100_000))
    before = files(small_disk)
    with pytest.raises(StorageError, match=r"No space left on device\. Fix: free some room"):
        blobs.assemble(PACKED)
    assert files(small_disk) == before
    assert not blobs.has(PACKED)
    assert blobs.missing(PACKED) == []


def test_an_artefact_that_is_not_packed_needs_its_room_once(small_disk: Path) -> None:
    blobs = BlobStore(small_disk)
    for index, part in enumerate(chunked(RAW, CHUNK_BYTES)):
        blobs.add_chunk(PLAIN, index, part)
    assert PLAIN.size > DISK_BYTES / 2
    blobs.assemble(PLAIN)
    assert blobs.has(PLAIN)


def test_a_read_only_disk_says_so_and_what_is_whole_stays(small_disk: Path) -> None:
    blobs = BlobStore(small_disk)
    blobs.add(OLD)
    blobs.add_chunk(PLAIN, 0, RAW[:CHUNK_BYTES])
    remount = ["/bin/mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True)
    with pytest.raises(StorageError, match=r"Read-only file system\. Fix: mount that disk"):
        blobs.add_chunk(PLAIN, 1, RAW[CHUNK_BYTES : 2 * CHUNK_BYTES])
    with pytest.raises(StorageError, match="Read-only file system"):
        blobs.add(RAW)
    blobs.prune(set())
    assert BlobStore(small_disk).missing(PLAIN) == list(range(1, 24))
    assert blobs.has(describe(OLD, CHUNK_BYTES, "fp32"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("failing", ["pwrite", "fsync", "posix_fallocate"])
def test_a_disk_that_fails_at_any_call_gives_an_error_and_never_a_false_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, code: int
) -> None:
    blobs = BlobStore(tmp_path)
    taken = 0
    real = getattr(os, failing)
    calls = 0

    first = {"posix_fallocate": 1, "fsync": 3, "pwrite": 5}[failing]

    def fail_from_the_first_on(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= first:
            raise OSError(code, os.strerror(code))
        return real(*args)

    monkeypatch.setattr(os, failing, fail_from_the_first_on)
    with pytest.raises(StorageError, match="Fix: "):
        for index, part in enumerate(chunked(RAW, CHUNK_BYTES)):
            blobs.add_chunk(PLAIN, index, part)
            taken += 1
    monkeypatch.undo()
    again = BlobStore(tmp_path)
    there = set(range(24)) - set(again.missing(PLAIN))
    assert there >= set(range(taken))
    for index in again.missing(PLAIN):
        again.add_chunk(PLAIN, index, RAW[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES])
    again.assemble(PLAIN)
    assert again.path(PLAIN.sha256).read_bytes() == RAW


@pytest.mark.parametrize("artefact", [PLAIN, PACKED], ids=["plain", "packed"])
@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_disk_that_fails_while_the_whole_is_put_in_place_loses_no_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, artefact: Any
) -> None:
    blobs = BlobStore(tmp_path)
    for index, part in enumerate(chunked(RAW, CHUNK_BYTES)):
        blobs.add_chunk(artefact, index, pack_chunk(part) if artefact.wire_bytes else part)

    def fail(*args: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os if failing == "fsync" else Path, failing, fail)
    with pytest.raises(StorageError, match=r"Input/output error\. Fix: look at the disk"):
        blobs.assemble(artefact)
    monkeypatch.undo()
    again = BlobStore(tmp_path)
    assert not again.has(artefact)
    assert again.missing(artefact) == []
    again.assemble(artefact)
    assert again.path(artefact.sha256).read_bytes() == RAW
