"""Writes arrays durably; ``shared/npz.py`` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.durable import disk_trouble, move_durably


def write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Writes an npz file, whole or not at all.

    Args:
        path: the file; its folder is made where it is missing.
        arrays: by name.

    Raises:
        StorageError: the disk does not take it.
    """
    written = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's own keywords are no arrays
    except OSError as error:
        raise disk_trouble("write", path, error) from error
    move_durably(written, path)
