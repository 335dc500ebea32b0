"""Trains the two tiers with scikit-learn and keeps what inference needs: weights and biases."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from cloud.optics import blur, shift
from shared.scores import Floats

FULL_HIDDEN = (384, 128)
SMALL_HIDDEN = (96,)
CLEAN_REPEATS = 4  # the clean inputs count for so many of the augmented copies


@dataclass(frozen=True, slots=True)
class Mlp:
    """A multi-layer perceptron with ReLU between its layers.

    Attributes:
        weights: one float32 [inputs, outputs] a layer.
        biases: one float32 [outputs] a layer.
        scale: the input is multiplied by it before the first layer.
    """

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    scale: float

    def logits(self, inputs: Floats) -> Floats:
        """Returns the logits, float32 [N, labels], of inputs, float32 [N, features]."""
        hidden = inputs.astype(np.float32) * np.float32(self.scale)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = np.maximum(hidden @ weight + bias, 0.0)
        return np.asarray(hidden @ self.weights[-1] + self.biases[-1], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the inputs are.

    Attributes:
        maximum: largest value that occurs; the smallest is 0.
        image_shape: (height, width) if they are images; None switches image augmentation off.
    """

    maximum: float
    image_shape: tuple[int, int] | None

    def clip(self, values: NDArray[Any]) -> Floats:
        """Returns values within the range, as float32."""
        return np.asarray(np.clip(values, 0.0, self.maximum), np.float32)


def augment(inputs: Floats, kind: Inputs, rng: np.random.Generator) -> Floats:
    """Returns inputs under random noise and, for images, shift, blur and contrast.

    Args:
        inputs: float32 [N, features].
        kind: their range and shape.
        rng: source of the variation.

    Returns:
        float32 [N, features].
    """
    noise = rng.normal(0.0, 0.02 * kind.maximum, inputs.shape)
    if kind.image_shape is None:
        return kind.clip(inputs + noise)
    count = len(inputs)
    images = shift(
        inputs.reshape(-1, *kind.image_shape),
        down_px=rng.uniform(-1.0, 1.0, count),
        right_px=rng.uniform(-1.0, 1.0, count),
    )
    images = blur(images, rng.uniform(0.0, 0.33, count))
    contrast = rng.uniform(0.3, 1.1, (count, 1))
    return kind.clip(images.reshape(count, -1) * contrast + noise)


def noisy_copies(inputs: Floats, copies: int, kind: Inputs, rng: np.random.Generator) -> Floats:
    """Returns the inputs followed by noisy copies, which keep a small model's confidence honest.

    Args:
        inputs: float32 [N, features].
        copies: noisy copies of each.
        kind: their range.
        rng: source of the noise.

    Returns:
        float32 [(1 + copies) * N, features], the inputs first.
    """
    repeated = np.tile(inputs, (copies, 1))
    noise = rng.normal(0.0, 0.045 * kind.maximum, repeated.shape)
    return np.concatenate([inputs, kind.clip(repeated + noise)])


def train_full(
    inputs: Floats,
    labels: NDArray[np.int64],
    kind: Inputs,
    seed: int,
    *,
    copies: int = 60,
    epochs: int = 15,
) -> Mlp:
    """Trains the full model on inputs and augmented copies of them.

    Args:
        inputs: float32 [N, features].
        labels: int64 [N]; every label must occur.
        kind: range and shape of the inputs.
        seed: decides augmentation, first weights and order of the batches.
        copies: augmented copies of each input.
        epochs: passes over all.
    """
    rng = np.random.default_rng(seed)
    augmented = augment(np.repeat(inputs, copies, axis=0), kind, rng)
    clean = np.tile(inputs, (CLEAN_REPEATS, 1))
    targets = np.concatenate([np.tile(labels, CLEAN_REPEATS), np.repeat(labels, copies)])
    network = MLPClassifier(
        FULL_HIDDEN, alpha=1e-2, batch_size=128, max_iter=epochs, random_state=seed
    )
    return _fitted(network, np.concatenate([clean, augmented]), targets, kind)


def distill(
    teacher_logits: Floats, inputs: Floats, kind: Inputs, seed: int, *, epochs: int = 50
) -> Mlp:
    """Trains the small model to mimic the full one's logits, by least squares.

    Mimic learning: Ba and Caruana, Do Deep Nets Really Need to be Deep?, NeurIPS 2014, section
    2.2. The logits of each sample are centred, which a softmax does not see, and standardized.

    Args:
        teacher_logits: float [N, labels], up to a constant for each sample.
        inputs: float32 [N, features]; their true labels are not needed.
        kind: range of the inputs.
        seed: decides first weights and order of the batches.
        epochs: passes over the inputs.
    """
    centred = teacher_logits - teacher_logits.mean(axis=1, keepdims=True)
    spread = np.float32(centred.std())
    network = MLPRegressor(
        hidden_layer_sizes=SMALL_HIDDEN,
        alpha=0.3,
        batch_size=64,
        learning_rate_init=2e-3,
        max_iter=epochs,
        random_state=seed,
    )
    student = _fitted(network, inputs, centred / spread, kind)
    weights = (*student.weights[:-1], student.weights[-1] * spread)
    return Mlp(weights, (*student.biases[:-1], student.biases[-1] * spread), student.scale)


def _fitted(
    network: MLPClassifier | MLPRegressor, inputs: Floats, targets: NDArray[Any], kind: Inputs
) -> Mlp:
    with warnings.catch_warnings():
        # The number of epochs is the stopping rule, so "not converged" is no news.
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(inputs / kind.maximum, targets)
    return Mlp(
        tuple(weight.astype(np.float32) for weight in network.coefs_),
        tuple(bias.astype(np.float32) for bias in network.intercepts_),
        1.0 / kind.maximum,
    )
