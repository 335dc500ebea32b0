"""Reading of the cloud's records: JSON, a file each, replaced whole."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from shared.errors import StorageError
from shared.files import read_if_there
from shared.messages import UNREADABLE

Record = TypeVar("Record", bound=msgspec.Struct)


def read_record(path: Path, kind: type[Record], otherwise: str, remedy: str) -> Record | None:
    """Returns what a file holds, None if there is no such file.

    Args:
        path: the file.
        kind: what it is to hold.
        otherwise: what a file is that does not, behind "is".
        remedy: what is to be done then.

    Raises:
        StorageError: the disk does not give it, or it holds something else. It stays where it is:
            what it said must not be guessed.
    """
    data = read_if_there(path)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except UNREADABLE as error:
        raise StorageError(f"{path} is {otherwise}: {error}. {remedy}") from error
