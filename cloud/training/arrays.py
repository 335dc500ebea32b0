"""Writes arrays durably; ``shared/npz.py`` reads them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from shared.durable import disk_trouble, move_durably
from shared.errors import StorageError


@dataclass(frozen=True)
class Streamed:
    """An array that is never whole in memory.

    Attributes:
        shape: of all of it.
        dtype: of its values.
        parts: of it, one after the other along the first axis.
    """

    shape: tuple[int, ...]
    dtype: type[np.generic]
    parts: Iterable[NDArray[Any]]


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any] | Streamed]) -> None:
    """Writes an npz file, whole or not at all.

    Args:
        path: the file; its folder is made where it is missing.
        arrays: by name, written in this order.

    Raises:
        StorageError: the disk does not take it, or what is streamed is of another length.
    """
    written = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    _write(file, name, array)
    except OSError as error:
        raise disk_trouble("write", path, error) from error
    move_durably(written, path)


def _write(file: IO[bytes], name: str, array: NDArray[Any] | Streamed) -> None:
    if not isinstance(array, Streamed):
        np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
        return
    descr = np.lib.format.dtype_to_descr(np.dtype(array.dtype))
    header = {"descr": descr, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header)
    rows = 0
    for part in array.parts:
        if part.shape[1:] != array.shape[1:]:
            raise StorageError(f"{name}: rows of shape {part.shape[1:]}, not {array.shape[1:]}")
        rows += len(part)
        file.write(np.ascontiguousarray(part, array.dtype).data)
    if rows != array.shape[0]:
        raise StorageError(f"{name}: {rows} rows came, not {array.shape[0]}")
