"""Reads npz files: without pickle, and no more of them than was allowed. Nodes do not import it."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.errors import StorageError

Number = TypeVar("Number", np.float32, np.int64)

MAX_NPZ_BYTES = 4 * 2**30
MAX_ARRAYS = 64
SUFFIX = ".npy"
PACKED_HOW = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, EOFError, KeyError,
    MemoryError, NotImplementedError, OverflowError, RuntimeError, SyntaxError, TypeError,
    ValueError,
)  # fmt: skip
"""What the standard library and numpy raise at a damaged or encrypted file. numpy reads a header
as Python's text."""


def read_npz(path: Path, *needed: str, max_bytes: int = MAX_NPZ_BYTES) -> dict[str, NDArray[Any]]:
    """Returns the arrays of an npz file, by name.

    What each array will take is read from the file's directory, and held against its own header,
    before anything is unpacked. Objects, which would have to be unpickled, are refused.

    Args:
        path: the file.
        needed: names that must be there.
        max_bytes: of all arrays together, unpacked.

    Raises:
        StorageError: it cannot be read, is damaged or too large, or an array is missing.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if (problem := _problem(members, needed, max_bytes)) is not None:
                raise StorageError(f"cannot use {path}: {problem}")
            return {_name(each): _array(archive, each) for each in members}
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    except BROKEN as error:
        raise StorageError(
            f"cannot read {path}: no npz with arrays of numbers: {error}. Fix: write it anew, "
            "with numpy.savez"
        ) from error


def as_numbers(array: NDArray[Any], dtype: type[Number], path: Path) -> NDArray[Number]:
    """Returns an array of a file as numbers of a type.

    Args:
        array: of any type.
        dtype: the type.
        path: the file, for the error.

    Raises:
        StorageError: it holds no numbers.
    """
    try:
        return np.asarray(array, dtype)
    except (TypeError, ValueError) as error:
        raise StorageError(f"cannot use {path}: an array holds no numbers: {error}") from error


def _problem(members: list[zipfile.ZipInfo], needed: tuple[str, ...], max_bytes: int) -> str | None:
    names = [_name(each) for each in members]
    size = sum(each.file_size for each in members)
    missing = [each for each in needed if each not in names]
    if not all(each.compress_type in PACKED_HOW for each in members):
        return "it is packed in a way that numpy does not write"
    if len(members) > MAX_ARRAYS:
        return f"{len(members)} arrays are more than {MAX_ARRAYS}"
    if size > max_bytes:
        return f"its arrays take {size:,} bytes unpacked, {max_bytes:,} are the most"
    if missing:
        return f"it has no array {', '.join(missing)}, only {', '.join(names) or 'nothing'}"
    return None


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(SUFFIX)


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        shape, dtype = _header(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds objects")
        # numpy makes room for what the header says before it reads on.
        if math.prod(shape) * dtype.itemsize > member.file_size:
            raise ValueError(f"{member.filename} is shorter than its header says")
        file.seek(0)
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"arrays of version {version[0]} are not read")
    return shape, dtype
