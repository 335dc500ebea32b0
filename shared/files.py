"""Reading of whole files, and what becomes of one that cannot be used."""

from __future__ import annotations

import logging
from pathlib import Path

from shared.errors import StorageError

BROKEN = ".broken"
"""Ending of what was put aside."""

log = logging.getLogger(__name__)


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


def read_if_there(path: Path) -> bytes | None:
    """Returns a file's bytes, None if there is no such file.

    Args:
        path: a file of ours.

    Raises:
        StorageError: the disk does not give it.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def put_aside(path: Path, trouble: str) -> None:
    """Gives a file another ending, so that a new one takes its place and a person can look at it.

    What was put aside before it is replaced. A disk that refuses is said, and no more.

    Args:
        path: the file.
        trouble: what is wrong with it, behind its name: ``is damaged (...)``.
    """
    aside = path.with_suffix(BROKEN)
    log.error("%s %s; put aside as %s", path, trouble, aside.name)
    try:
        path.replace(aside)
    except OSError as error:
        log.error("%s stays where it is: %s", path, error.strerror)
