"""What a lens does to a batch of images: sub-pixel shift and blur, each image by its own amount."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.floating[Any]]
"""float [N, height, width]."""


def shift(images: Images, *, down_px: Images, right_px: Images) -> Images:
    """Moves each image by up to one pixel; what leaves the frame is lost, what enters is black.

    Args:
        images: float [N, height, width].
        down_px: float [N] in -1 to 1; bilinear between whole pixels.
        right_px: float [N] in -1 to 1.
    """
    return _separable(images, _shift_taps(down_px), _shift_taps(right_px))


def blur(images: Images, spill: Images) -> Images:
    """Lets each pixel spill into its neighbours, along rows and along columns.

    Args:
        images: float [N, height, width].
        spill: float [N] in 0 to 1/3, the share of a pixel's light that goes to each neighbour.
    """
    taps = np.stack([spill, 1.0 - 2.0 * spill, spill], axis=1)
    return _separable(images, taps, taps)


def _shift_taps(offset_px: Images) -> Images:
    after, before = np.maximum(offset_px, 0), np.maximum(-offset_px, 0)
    return np.stack([after, 1 - np.abs(offset_px), before], axis=1)


def _separable(images: Images, down: Images, right: Images) -> Images:
    """Correlates each image with its own column filter and row filter; taps are float [N, 3]."""
    height, width = images.shape[1:]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    columns = np.zeros((len(images), height, width + 2))
    for tap in range(3):
        columns += down[:, tap, None, None] * padded[:, tap : tap + height, :]
    filtered = np.zeros(images.shape)
    for tap in range(3):
        filtered += right[:, tap, None, None] * columns[:, :, tap : tap + width]
    return filtered
