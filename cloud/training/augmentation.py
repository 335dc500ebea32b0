"""Varied copies of inputs: noise, and for images what a lens does."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.training.contract import Samples, joined
from cloud.training.optics import blur, shift
from shared.scores import Floats

CLEAN_REPEATS = 4  # the clean inputs count for so many of the augmented copies


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the inputs are.

    Attributes:
        maximum: largest value that occurs; the smallest is 0.
        image_shape: (height, width) if they are images, one or several planes each; None switches
            image augmentation off.
    """

    maximum: float
    image_shape: tuple[int, int] | None

    def clip(self, values: NDArray[Any]) -> Floats:
        """Returns values within the range, as float32."""
        return np.asarray(np.clip(values, 0.0, self.maximum), np.float32)


def augment(inputs: Floats, kind: Inputs, rng: np.random.Generator) -> Floats:
    """Returns inputs under random noise and, for images, shift, blur and contrast.

    Args:
        inputs: float32 [N, ...].
        kind: their range and shape.
        rng: source of the variation.

    Returns:
        float32 [N, ...].
    """
    noise = rng.normal(0.0, 0.02 * kind.maximum, inputs.shape)
    if kind.image_shape is None:
        return kind.clip(inputs + noise)
    count, planes = len(inputs), math.prod(inputs.shape[1:]) // math.prod(kind.image_shape)
    images = shift(
        inputs.reshape(-1, *kind.image_shape),
        down_px=np.repeat(rng.uniform(-1.0, 1.0, count), planes),
        right_px=np.repeat(rng.uniform(-1.0, 1.0, count), planes),
    )
    images = blur(images, np.repeat(rng.uniform(0.0, 0.33, count), planes))
    contrast = rng.uniform(0.3, 1.1, (count, *(1,) * (inputs.ndim - 1)))
    return kind.clip(images.reshape(inputs.shape) * contrast + noise)


def noisy_copies(inputs: Floats, copies: int, kind: Inputs, rng: np.random.Generator) -> Floats:
    """Returns noisy copies of inputs, which keep a small model's confidence honest.

    Args:
        inputs: float32 [N, ...].
        copies: of each.
        kind: their range.
        rng: source of the noise.

    Returns:
        float32 [copies * N, ...].
    """
    repeated = np.concatenate([inputs] * copies)
    return kind.clip(repeated + rng.normal(0.0, 0.045 * kind.maximum, repeated.shape))


def with_copies(samples: Samples, copies: int, kind: Inputs, rng: np.random.Generator) -> Samples:
    """Returns samples with varied copies of them, which have the same labels.

    Args:
        samples: with labels; nobody has answered the copies.
        copies: of each; with none, the samples come back as they are.
        kind: range and shape of the inputs.
        rng: source of the variation.
    """
    if not copies:
        return samples
    varied = joined(*[samples] * copies)
    return joined(
        *[samples] * CLEAN_REPEATS, replace(varied, inputs=augment(varied.inputs, kind, rng))
    )
