"""Reading of files that a configuration names."""

from __future__ import annotations

from pathlib import Path

from shared.errors import StorageError


def read_file(path: Path) -> bytes:
    """Returns a file's bytes.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
