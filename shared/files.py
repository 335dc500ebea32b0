"""Reading of files that a configuration names."""

from __future__ import annotations

from pathlib import Path

from shared.errors import StorageError


def read_file(path: Path, max_bytes: int | None = None) -> bytes:
    """Returns a file's bytes.

    Args:
        path: the file.
        max_bytes: more than that is not read; None for no limit.

    Raises:
        StorageError: it cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read() if max_bytes is None else file.read(max_bytes + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if max_bytes is not None and len(data) > max_bytes:
        raise StorageError(f"{path} has more than {max_bytes} bytes. Fix: look what it is")
    return data
