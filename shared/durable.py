"""Durable writes: what was written survives kill -9 and a power cut, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from shared.errors import StorageError

_REMEDIES = {
    errno.ENOSPC: "free some room on that disk",
    errno.EDQUOT: "free some room, or raise the quota of this user",
    errno.EFBIG: "raise the limit on the size of a file (`ulimit -f`)",
    errno.EROFS: "mount that disk for writing, or move state_dir",
    errno.EACCES: "make the folder writable for the user that runs this node",
    errno.EPERM: "make the folder writable for the user that runs this node",
    errno.EIO: "look at the disk: it does not do what it is told",
}


def write_durably(path: Path, data: bytes, mode: int | None = None) -> None:
    """Replaces a file's content: temporary file, fsync, rename, fsync of the folder.

    Args:
        path: the file; its folder is made where it is missing.
        data: the whole content.
        mode: permissions of the file; None for the user's default.

    Raises:
        StorageError: the disk is full, read-only or broken; the old content then still stands.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise disk_trouble("write", path, error) from error


def move_durably(written: Path, path: Path) -> None:
    """Gives a file that was written aside its name: fsync, rename, fsync of the folder.

    Args:
        written: the file, on the same disk.
        path: its new name; a file of that name is replaced.

    Raises:
        StorageError: the disk is full, read-only or broken; both names are then as they were.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(written, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _put_in_place(written, path)
    except OSError as error:
        raise disk_trouble("write", path, error) from error


def disk_trouble(act: str, path: Path, error: OSError) -> StorageError:
    """Returns what to raise when the disk fails: what was tried, where, why, and what to do.

    Args:
        act: what was tried, one verb.
        path: the file.
        error: what the disk said.
    """
    remedy = _REMEDIES.get(error.errno or 0)
    what_to_do = f". Fix: {remedy}" if remedy else ""
    return StorageError(f"cannot {act} {path}: {error.strerror or error}{what_to_do}")


def clear_unfinished(path: Path) -> None:
    """Deletes what writes that a crash has cut off have left beside a file.

    For who owns the file: nobody else writes it now. What cannot be deleted only takes room.

    Args:
        path: the file.
    """
    with contextlib.suppress(OSError):
        for temporary in path.parent.glob(f".{path.name}.*.tmp"):
            temporary.unlink()


def _put_in_place(written: Path, path: Path) -> None:
    written.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
