"""A .npy file is a sample, whatever wrote it; what is no array of numbers is refused unread."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from shared.errors import PayloadError
from tests.unit.formats.opened import MAX_BYTES, opened, rows
from tier1.formats.npy import DTYPES, read_header

NPY = opened({"kind": "npy"}, (2, 3))
NUMBERS = np.array([[1, 2, 3], [4, 5, 6]])


def npy(array: NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def written(header: str, numbers: bytes = bytes(24), version: bytes = b"\x01\x00") -> bytes:
    """Returns a file with a header of one's own."""
    size = 2 if version[0] == 1 else 4
    text = header.encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(size, "little") + text + numbers


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_of_every_type_and_order_pass(dtype: str, order: Any) -> None:
    for array in (NUMBERS.astype(dtype, order=order), NUMBERS.astype(dtype).ravel()):
        decoded = NPY.decode(npy(array))
        assert_array_equal(rows(decoded, (2, 3)), [NUMBERS])
        assert decoded.id is decoded.timestamp is None


@pytest.mark.filterwarnings("ignore:Stored array in format:UserWarning")
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)], ids=str)
def test_every_version_of_the_header_passes(version: tuple[int, int]) -> None:
    payload = npy(NUMBERS.astype("<f4"), version)
    assert_array_equal(rows(NPY.decode(payload), (2, 3)), [NUMBERS])


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n",
        "{'shape':(2,3),'descr':'<f4','fortran_order':False}",
        '{"descr": "<f4", "fortran_order": False, "shape": (2, 3)}',
        "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [2, 3]}   \n",
    ],
)
def test_a_header_may_be_written_as_other_programs_write_it(header: str) -> None:
    numbers = NUMBERS.astype("<f4").tobytes()
    assert_array_equal(rows(NPY.decode(written(header, numbers)), (2, 3)), [NUMBERS])


@given(hnp.arrays(st.sampled_from(sorted(DTYPES)), (2, 3)))
def test_what_numpy_saves_comes_as_numpy_loads_it(array: NDArray[Any]) -> None:
    payload = npy(array)
    with np.errstate(over="ignore", invalid="ignore"):
        loaded = np.load(io.BytesIO(payload), allow_pickle=False).astype(np.float32)
    assert_array_equal(rows(NPY.decode(payload), (2, 3)), [loaded])


def test_a_fortran_ordered_pack_comes_as_it_was() -> None:
    pack = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    format_ = opened({"kind": "npy", "pack": {"max_samples": 4}}, (2, 3))
    payload = npy(np.asfortranarray(pack))
    assert read_header(payload)[0].fortran_order
    assert_array_equal(rows(format_.decode(payload), (2, 3)), pack)


def test_whole_numbers_stand_for_bytes_where_they_are() -> None:
    image = opened({"kind": "npy"}, (3,), "uint8")
    sound = npy(np.array([0, 7, 255], ">i4"))
    assert_array_equal(rows(image.decode(sound), (3,), "uint8"), [[0, 7, 255]])
    for odd, reason in (
        (np.array([0, 7, 256]), "out_of_range"),
        (np.array([0, -7, 25]), "out_of_range"),
        (np.array([0, 7, 25.0]), "wrong_dtype"),
    ):
        with pytest.raises(PayloadError) as refused:
            image.decode(npy(odd))
        assert refused.value.reason == reason
        assert "whole numbers 0 to 255" in refused.value.expected


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was loaded",)


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Bomb()], object), allow_pickle=True)
    return file.getvalue()


SOUND = npy(NUMBERS.astype("<f4"))
HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(b"", "not_npy", id="empty"),
        pytest.param(b"PK\x03\x04", "not_npy", id="an-npz"),
        pytest.param(b"\x93NUMPY", "not_npy", id="the-magic-alone"),
        pytest.param(b"\x93NUMPY\x01", "not_npy", id="half-a-version"),
        pytest.param(b"\x93NUMPY\x04\x00" + SOUND[8:], "not_npy", id="version-4"),
        pytest.param(SOUND[:40], "not_npy", id="half-a-header"),
        pytest.param(SOUND[:-1], "not_npy", id="cut-off"),
        pytest.param(SOUND + b"\0", "not_npy", id="more-after-it"),
        pytest.param(pickled(), "wrong_dtype", id="a-pickle"),
        pytest.param(npy(np.array(["a", "b"])), "wrong_dtype", id="text"),
        pytest.param(npy(NUMBERS.astype(bool)), "wrong_dtype", id="truth-values"),
        pytest.param(npy(NUMBERS.astype(complex)), "wrong_dtype", id="complex"),
        pytest.param(npy(np.zeros(2, "datetime64[s]")), "wrong_dtype", id="dates"),
        pytest.param(npy(np.zeros(2, [("a", "<f4")])), "not_npy", id="structures"),
        pytest.param(npy(NUMBERS.T.astype("<f4")), "wrong_length", id="another-shape"),
        pytest.param(npy(NUMBERS[None].astype("<f4")), "wrong_length", id="a-pack"),
        pytest.param(npy(np.zeros((), "<f4")), "wrong_length", id="a-single-number"),
        pytest.param(npy(np.zeros((0, 3), "<f4")), "wrong_length", id="no-numbers"),
        pytest.param(written(HEADER.replace("2", "-2")), "not_npy", id="a-negative-shape"),
        pytest.param(written(HEADER.replace("2", "9" * 9)), "not_npy", id="a-huge-shape"),
        pytest.param(written(HEADER.replace("2", "9" * 99)), "not_npy", id="a-huger-shape"),
        pytest.param(written(HEADER.replace("(2", "(" * 3000)), "not_npy", id="nested"),
        pytest.param(written(HEADER.replace("2", "exit()")), "not_npy", id="code"),
        pytest.param(written(HEADER.replace("2", "True")), "not_npy", id="truth-for-a-number"),
        pytest.param(written(HEADER.replace("}", "'x': 1}")), "not_npy", id="a-field-too-many"),
        pytest.param(written("{}"), "not_npy", id="nothing-in-the-header"),
        pytest.param(written("\xff", version=b"\x03\x00"), "not_npy", id="an-odd-header"),
        pytest.param(written(HEADER + " " * 5000), "not_npy", id="an-endless-header"),
        pytest.param(written(HEADER, bytes(MAX_BYTES)), "too_large", id="too-large"),
    ],
)
def test_a_refusal_has_its_reason_and_says_what_was_expected(payload: bytes, reason: str) -> None:
    limit = MAX_BYTES if reason == "too_large" else 2 * MAX_BYTES
    with pytest.raises(PayloadError) as refused:
        opened({"kind": "npy"}, (2, 3), max_payload_bytes=limit).decode(payload)
    assert refused.value.reason == reason
    assert "shape 2x3 or 6" in refused.value.expected


def test_a_file_says_nothing_of_an_id() -> None:
    assert NPY.sender_id(SOUND) is None
