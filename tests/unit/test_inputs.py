"""A sample is one row; each input of the model takes its part of it, normalised if it asks so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from shared.inputs import InputDtype, Inputs, InputSpec


def rows_of(inputs: Inputs, count: int = 2) -> NDArray[Any]:
    numbers = np.arange(count * inputs.size, dtype=inputs.dtype)
    return numbers.reshape(count, *inputs.shape)


def test_a_row_of_one_input_has_its_shape_and_dtype() -> None:
    inputs = Inputs([InputSpec((3, 8, 8), dtype="uint8")])
    assert (inputs.shape, inputs.size, inputs.dtype.name) == ((3, 8, 8), 192, "uint8")


def test_rows_that_the_model_takes_as_they_are_are_not_copied() -> None:
    inputs = Inputs.plain((4,))
    rows = rows_of(inputs)
    (part,) = inputs.parts(rows)
    assert part is rows


def test_several_inputs_share_one_flat_row_in_their_order() -> None:
    inputs = Inputs([InputSpec((2, 2), "window"), InputSpec((1,), "speed")])
    assert (inputs.shape, inputs.names) == ((5,), ("window", "speed"))
    assert (inputs.sizes, inputs.offsets) == ((4, 1), (0, 4))
    window, speed = inputs.parts(rows_of(inputs))
    assert_array_equal(window, [[[0, 1], [2, 3]], [[5, 6], [7, 8]]])
    assert_array_equal(speed, [[4], [9]])


def test_each_part_of_a_row_lies_in_memory_as_a_tensor_does() -> None:
    inputs = Inputs([InputSpec((2, 2), "a"), InputSpec((3,), "b", mean=(1.0,))])
    assert all(part.flags.c_contiguous for part in inputs.parts(rows_of(inputs)))


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        pytest.param(("uint8", "uint8"), "uint8", id="all-bytes"),
        pytest.param(("uint8", "float32"), "float32", id="bytes-beside-floats"),
        pytest.param(("float32", "float32"), "float32", id="all-floats"),
    ],
)
def test_a_row_is_of_bytes_only_where_all_inputs_are(
    dtypes: tuple[InputDtype, ...], expected: str
) -> None:
    specs = [InputSpec((2,), str(place), dtype) for place, dtype in enumerate(dtypes)]
    assert Inputs(specs).dtype.name == expected


def test_bytes_beside_floats_reach_the_model_as_bytes() -> None:
    inputs = Inputs([InputSpec((2,), "image", "uint8"), InputSpec((1,), "speed")])
    image, speed = inputs.parts(np.array([[255, 7, 0.5]], np.float32))
    assert (image.dtype.name, speed.dtype.name) == ("uint8", "float32")
    assert_array_equal(image, [[255, 7]])


def test_a_scale_of_255_brings_bytes_to_zero_to_one() -> None:
    inputs = Inputs([InputSpec((3,), dtype="uint8", scale=(255.0,))])
    (part,) = inputs.parts(np.array([[0, 51, 255]], np.uint8))
    assert part.dtype == np.float32
    assert_allclose(part, [[0, 0.2, 1]])


def test_it_normalises_as_the_standard_scaler_does() -> None:
    data = np.random.default_rng(1).normal(5, 3, (50, 4)).astype(np.float32)
    scaler = StandardScaler().fit(data)
    inputs = Inputs([InputSpec((4,), mean=tuple(scaler.mean_), scale=tuple(scaler.scale_))])
    (part,) = inputs.parts(data)
    assert_allclose(part, scaler.transform(data), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "mean", "expected"),
    [
        pytest.param((2, 3), (1.0,), [[-1, 0, 1], [2, 3, 4]], id="one-for-all"),
        pytest.param((2, 3), (0.0, 3.0), [[0, 1, 2], [0, 1, 2]], id="channels-first"),
        pytest.param((2, 3), (0.0, 1.0, 2.0), [[0, 0, 0], [3, 3, 3]], id="channels-last"),
        pytest.param((2, 2), (0.0, 2.0), [[0, 1], [0, 1]], id="first-where-both-are-as-long"),
        pytest.param((2, 2), (0.0, 1.0, 2.0, 3.0), [[0, 0], [0, 0]], id="each-number"),
    ],
)
def test_a_mean_goes_along_the_dimension_that_it_fits(
    shape: tuple[int, ...], mean: tuple[float, ...], expected: list[list[float]]
) -> None:
    inputs = Inputs([InputSpec(shape, mean=mean)])
    (part,) = inputs.parts(rows_of(inputs, 1))
    assert_array_equal(part[0], expected)


@given(st.integers(0, 5), st.sampled_from(["float32", "uint8"]))
def test_normalising_leaves_the_rows_themselves_alone(count: int, dtype: InputDtype) -> None:
    inputs = Inputs([InputSpec((2, 3), dtype=dtype, mean=(7.0,), scale=(3.0,))])
    rows = rows_of(inputs, count)
    before = rows.copy()
    inputs.parts(rows)
    assert_array_equal(rows, before)
