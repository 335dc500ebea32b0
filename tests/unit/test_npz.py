"""No npz file ends who reads it, runs anything, or takes more memory than was allowed."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from shared.errors import StorageError
from shared.npz import MAX_ARRAYS, as_numbers, read_npz

ARRAYS: dict[str, Any] = {
    "x": np.arange(6, dtype=np.float32).reshape(2, 3),
    "turned": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "ids": np.array(["a", "bb"]),
    "none": np.zeros((0, 4), np.uint8),
    "one": np.int64(7),
}


def whole(save: Callable[..., None], **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, **(arrays or ARRAYS))
    return file.getvalue()


def zipped(name: str, content: bytes, how: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def header(text: str) -> bytes:
    """Returns the beginning of a .npy file of version 1 with this header."""
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode()


def read(folder: Path, data: bytes, *needed: str, **bounds: int) -> dict[str, Any]:
    (folder / "data.npz").write_bytes(data)
    return read_npz(folder / "data.npz", *needed, **bounds)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_wrote_is_read_back(tmp_path: Path, save: Callable[..., None]) -> None:
    found = read(tmp_path, whole(save), "x", "ids")
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


class Bomb:
    """Something that does harm when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('unpickled')",)


def pickled() -> bytes:
    with pytest.raises(SystemExit):
        pickle.loads(pickle.dumps(Bomb()))
    return whole(np.savez, x=np.array([Bomb()], object))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(b"", "no npz", id="empty"),
        pytest.param(b"no zip", "no npz", id="no-zip"),
        pytest.param(whole(np.savez)[:-30], "no npz", id="cut-off"),
        pytest.param(pickled(), "x.npy holds objects", id="pickle"),
        pytest.param(zipped("x.npy", b"no array"), "no npz", id="no-array"),
        pytest.param(zipped("x.npy", header("{'descr': '<f4', ")), "no npz", id="torn-header"),
        pytest.param(
            zipped(
                "x.npy",
                header("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,)}\n"),
            ),
            "shorter than its header says",
            id="promises-terabytes",
        ),
        pytest.param(
            zipped("x.npy", b"", zipfile.ZIP_LZMA), "that numpy does not write", id="lzma"
        ),
        pytest.param(whole(np.savez, y=np.eye(2)), "it has no array x, only y", id="missing"),
        pytest.param(
            whole(np.savez, **{f"a{number}": np.eye(1) for number in range(MAX_ARRAYS + 1)}),
            f"65 arrays are more than {MAX_ARRAYS}",
            id="too-many",
        ),
    ],
)
def test_what_is_no_npz_of_numbers_is_an_error_that_names_it(
    tmp_path: Path, data: bytes, problem: str
) -> None:
    with pytest.raises(StorageError, match=rf"data\.npz: .*{problem}"):
        read(tmp_path, data, "x")


def test_a_packed_array_whose_bytes_were_changed_is_an_error(tmp_path: Path) -> None:
    data = bytearray(whole(np.savez_compressed, x=np.arange(500.0)))
    data[len(data) // 3] ^= 0xFF
    with pytest.raises(StorageError, match="no npz"):
        read(tmp_path, bytes(data), "x")


def test_nothing_is_unpacked_of_a_file_that_would_be_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = whole(np.savez_compressed, x=np.zeros(10**7, np.uint8))
    assert len(bomb) < 20_000
    assert len(read(tmp_path, bomb, max_bytes=11 * 10**6)["x"]) == 10**7

    def unpacked(*arguments: object, **options: object) -> None:
        raise AssertionError("it unpacks something")

    monkeypatch.setattr(zipfile.ZipFile, "open", unpacked)
    with pytest.raises(StorageError, match="take 10,000,128 bytes unpacked, 1,000,000 are the"):
        read(tmp_path, bomb, max_bytes=10**6)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*nothing\.npz: No such file"):
        read_npz(tmp_path / "nothing.npz")


def test_text_is_no_numbers(tmp_path: Path) -> None:
    assert as_numbers(np.eye(2), np.float32, tmp_path).dtype == np.float32
    with pytest.raises(StorageError, match="holds no numbers"):
        as_numbers(np.array(["a"]), np.float32, tmp_path)


@pytest.mark.filterwarnings("ignore")  # numpy warns of a type's old name in a header of any bytes
@settings(max_examples=150, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 400),
)
def test_whatever_a_disk_makes_of_a_file_it_is_whole_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(whole(np.savez_compressed, x=np.arange(64.0)))
    for place, value in changes:
        data[place % len(data)] = value
    folder = tmp_path_factory.getbasetemp()
    try:
        found = read(folder, bytes(data[: len(data) - cut]), "x")
    except StorageError:
        return
    assert_array_equal(found["x"], np.arange(64.0))
