"""What the lens does keeps to optics: light moves and spreads, and none is made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose

from cloud.training.optics import Images, blur, shift

DOT = np.diag([0.0, 1.0, 0.0])
WHITE = np.ones((2, 2))


def moved(image: Images, down: float, right: float) -> Images:
    images = shift(image[None], down_px=np.array([down]), right_px=np.array([right]))
    return np.asarray(images[0])


@pytest.mark.parametrize(
    ("down", "right", "row", "column"),
    [(0, 0, 1, 1), (1, 0, 2, 1), (-1, 0, 0, 1), (0, 1, 1, 2), (0, -1, 1, 0), (1, -1, 2, 0)],
)
def test_a_whole_pixel_moves_the_light_whole(down: int, right: int, row: int, column: int) -> None:
    result = moved(DOT, float(down), float(right))
    assert result[row, column] == 1
    assert result.sum() == 1


def test_half_a_pixel_shares_the_light() -> None:
    assert_allclose(moved(DOT, 0.0, 0.5)[1], [0, 0.5, 0.5])


def test_what_leaves_the_frame_is_lost_and_what_enters_is_black() -> None:
    assert_allclose(moved(WHITE, 1.0, 0.0), np.array([[0.0, 0.0], [1.0, 1.0]]))


def test_each_image_has_its_own_amount() -> None:
    images = np.array([DOT, DOT])
    nothing = np.zeros(2)
    result = shift(images, down_px=nothing, right_px=np.array([0.0, 1.0]))
    assert result[0, 1, 1] == 1
    assert result[1, 1, 2] == 1


def test_blur_spreads_the_light_along_rows_and_columns() -> None:
    result = blur(np.array([DOT]), np.array([0.25]))[0]
    kernel = np.array([0.25, 0.5, 0.25])
    assert_allclose(result, np.outer(kernel, kernel))


IMAGES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(2, 5)),
    elements=st.floats(0, 16),
)


@given(IMAGES, st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1 / 3))
def test_no_light_is_made_and_none_turns_negative(
    images: Images, down: float, right: float, spill: float
) -> None:
    every = np.ones(len(images))
    before = images.sum(axis=(1, 2))
    for result in (
        shift(images, down_px=down * every, right_px=right * every),
        blur(images, spill * every),
    ):
        assert result.shape == images.shape
        assert (result >= -1e-12).all()
        assert (result.sum(axis=(1, 2)) <= before + 1e-9).all()


@given(IMAGES)
def test_nothing_done_is_nothing_changed(images: Images) -> None:
    none = np.zeros(len(images))
    assert_allclose(shift(images, down_px=none, right_px=none), images)
    assert_allclose(blur(images, none), images)
