"""Durable writes: what was written survives kill -9 and a power cut, whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from shared.errors import StorageError


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
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
