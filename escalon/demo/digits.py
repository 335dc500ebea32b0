"""The demo's input: scikit-learn's UCI digits, split once, and how cameras deliver them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.training.optics import blur, shift
from shared.scores import Floats

SCAN_MAXIMUM = 16.0
SCAN_SHAPE = (8, 8)

FOG_SHARE = 0.15
"""Share of readings that are taken through a fogged meter glass, in every phase."""

TRAIN_SCANS = 700
CALIBRATION_SCANS = 400
FIELD_SCANS = 400


@dataclass(frozen=True, slots=True)
class Scans:
    """Scans with their true digits.

    Attributes:
        pixels: float32 [N, 64], 0 to 16.
        digits: int64 [N], 0 to 9.
    """

    pixels: Floats
    digits: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Four disjoint sets of scans; together they are the whole data set.

    Attributes:
        train: teaches both tiers.
        calibration: fits the first temperatures and certifies the first threshold.
        field: what the sensors publish in the phases steady, drift and rollout.
        fresh: what they publish in the phase after; no model has seen these in any form.
    """

    train: Scans
    calibration: Scans
    field: Scans
    fresh: Scans


def split(seed: int) -> Split:
    """Splits the 1,797 scans, stratified by digit.

    Args:
        seed: decides the split.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415 - the sensors do not need it

    pixels, digits = load_digits(return_X_y=True)
    rest = Scans(pixels.astype(np.float32), digits.astype(np.int64))
    train, rest = _take(rest, TRAIN_SCANS, seed)
    calibration, rest = _take(rest, CALIBRATION_SCANS, seed)
    field, fresh = _take(rest, FIELD_SCANS, seed)
    return Split(train, calibration, field, fresh)


def delivered(pixels: Floats, rng: np.random.Generator) -> Floats:
    """Returns scans as sound cameras deliver them: most untouched, some through a fogged glass.

    Fog blurs and dims. Which scans are fogged, and how much, is drawn anew at each call.

    Args:
        pixels: float32 [N, 64], 0 to 16.
        rng: source of the variation.

    Returns:
        float32 [N, 64], 0 to 16.
    """
    fogged = rng.random(len(pixels)) < FOG_SHARE
    count = int(fogged.sum())
    images = blur(pixels[fogged].reshape(-1, *SCAN_SHAPE), rng.uniform(0.25, 0.33, count))
    contrast = rng.uniform(0.33, 0.43, (count, 1, 1))
    seen = pixels.copy()
    seen[fogged] = _exposed(images * contrast + rng.normal(0.0, 0.3, images.shape))
    return seen


def drifted(pixels: Floats, rng: np.random.Generator) -> Floats:
    """Returns scans as a knocked, dirty lens shows them: shifted, blurred, with less contrast.

    The amounts vary from reading to reading.

    Args:
        pixels: float32 [N, 64], 0 to 16.
        rng: source of the variation.

    Returns:
        float32 [N, 64], 0 to 16.
    """
    count = len(pixels)
    images = shift(
        pixels.reshape(-1, *SCAN_SHAPE),
        down_px=rng.uniform(0.2, 0.5, count),
        right_px=rng.uniform(0.8, 1.0, count),
    )
    images = blur(images, rng.uniform(0.0, 0.05, count))
    contrast = rng.uniform(0.9, 1.0, (count, 1, 1))
    return _exposed(images * contrast + rng.normal(0.0, 0.3, images.shape))


def _exposed(images: NDArray[np.floating[Any]]) -> Floats:
    """Clips images [N, 8, 8] to the sensor's range and flattens them to [N, 64]."""
    return np.asarray(np.clip(images, 0.0, SCAN_MAXIMUM), np.float32).reshape(-1, 64)


def _take(scans: Scans, count: int, seed: int) -> tuple[Scans, Scans]:
    from sklearn.model_selection import train_test_split  # noqa: PLC0415 - see ``split``

    taken, left = train_test_split(
        np.arange(len(scans.digits)), train_size=count, stratify=scans.digits, random_state=seed
    )
    return (
        Scans(scans.pixels[taken], scans.digits[taken]),
        Scans(scans.pixels[left], scans.digits[left]),
    )
