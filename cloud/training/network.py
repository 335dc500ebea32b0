"""A network as plain arrays: what is trained, pruned and exported. It knows numpy alone."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shared.scores import Floats

Kind = Literal["mlp", "cnn1d", "cnn2d"]

POOL = 2
"""After each convolution every dimension is halved, as long as that leaves something."""


@dataclass(frozen=True, slots=True)
class Dense:
    """A fully connected layer.

    Attributes:
        weight: float32 [inputs, outputs].
        bias: float32 [outputs].
    """

    weight: Floats
    bias: Floats


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution that keeps the size, a ReLU, and a max-pooling.

    Attributes:
        weight: float32 [filters, channels, *kernel]; the kernel is odd.
        bias: float32 [filters].
        pool: width and stride of the pooling in each dimension; ones for none.
    """

    weight: Floats
    bias: Floats
    pool: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """Convolutions, then fully connected layers with a ReLU between them.

    Attributes:
        shape: of one sample as the pipeline gives it.
        planes: (channels, *dimensions), as the convolutions see a sample; empty without them.
        scale: the input is multiplied by it first.
        convs: the convolutions.
        dense: the fully connected layers; the last one gives the logits.
    """

    shape: tuple[int, ...]
    planes: tuple[int, ...]
    scale: float
    convs: tuple[Conv, ...]
    dense: tuple[Dense, ...]

    @property
    def layers(self) -> tuple[Conv | Dense, ...]:
        """All layers with weights."""
        return *self.convs, *self.dense

    @property
    def weights(self) -> int:
        """How many weights it has that are not zero."""
        return sum(int(np.count_nonzero(layer.weight)) for layer in self.layers)

    @property
    def positions(self) -> int:
        """How many numbers of each filter of the last convolution the first dense layer sees."""
        return math.prod(pooled(self.planes[1:], self.convs)) if self.convs else 1


def planes_of(
    kind: Kind, shape: tuple[int, ...], image_shape: tuple[int, int] | None
) -> tuple[int, ...] | None:
    """Returns how convolutions see a sample: (channels, *dimensions); empty for a perceptron.

    Args:
        kind: the architecture.
        shape: of one sample.
        image_shape: (height, width) where a sample is an image that comes as a row of numbers.

    Returns:
        None where such samples do not fit the architecture.
    """
    if kind == "mlp":
        return ()
    dimensions = 1 if kind == "cnn1d" else 2
    if dimensions == 2 and len(shape) == 1 and image_shape is not None:
        return math.prod(shape) // math.prod(image_shape), *image_shape
    if len(shape) == dimensions:
        return 1, *shape
    return shape if len(shape) == dimensions + 1 else None


def initial(
    kind: Kind,
    shape: tuple[int, ...],
    planes: tuple[int, ...],
    scale: float,
    *,
    channels: tuple[int, ...],
    kernel: int,
    hidden: tuple[int, ...],
    labels: int,
    rng: np.random.Generator,
) -> Network:
    """Returns a network with random weights.

    He et al., Delving Deep into Rectifiers, ICCV 2015, arXiv 1502.01852, equation 10: variance
    2 / inputs, so that a ReLU keeps the scale of what goes through.

    Args:
        kind: the architecture.
        shape: of one sample.
        planes: as ``planes_of`` returns them.
        scale: the input is multiplied by it first.
        channels: filters of each convolution.
        kernel: width of the filters, odd.
        hidden: neurons of each hidden layer.
        labels: how many.
        rng: draws the weights.
    """
    convs: list[Conv] = []
    for inputs, filters in itertools.pairwise((planes[0], *channels)) if kind != "mlp" else ():
        window = (kernel,) * len(planes[1:])
        size = pooled(planes[1:], convs)
        pool = tuple(POOL if length >= 2 * POOL else 1 for length in size)
        weight = _he(rng, (filters, inputs, *window), inputs * math.prod(window))
        convs.append(Conv(weight, np.zeros(filters, np.float32), pool))
    flat = channels[-1] * math.prod(pooled(planes[1:], convs)) if convs else math.prod(shape)
    dense = [
        Dense(_he(rng, pair, pair[0]), np.zeros(pair[1], np.float32))
        for pair in itertools.pairwise((flat, *hidden, labels))
    ]
    return Network(shape, planes, scale, tuple(convs), tuple(dense))


def pooled(size: tuple[int, ...], convs: list[Conv] | tuple[Conv, ...]) -> tuple[int, ...]:
    """Returns the dimensions that convolutions leave of planes of a size."""
    for conv in convs:
        size = tuple(length // width for length, width in zip(size, conv.pool, strict=True))
    return size


def _he(rng: np.random.Generator, shape: tuple[int, ...], inputs: int) -> Floats:
    return rng.normal(0.0, math.sqrt(2.0 / inputs), shape).astype(np.float32)
