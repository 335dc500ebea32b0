"""A small problem to train on, and a second implementation of what a network computes."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud.certificate.promise import Promise
from cloud.training.augmentation import Inputs
from cloud.training.config import ModelConfig, TrainingConfig
from cloud.training.contract import BASE, NOT_LABELLED, Job, Samples, Tier
from cloud.training.network import Kind, Network, initial, planes_of
from cloud.training.order import ORDER, Order
from cloud.training.progress import ProgressLines
from shared.scores import Floats

LABELS = ("a", "b", "c")
KIND = Inputs(16.0, None)
PROMISE = Promise(0.05, 0.05, 0.2)
SILENT = ProgressLines(lambda line: None, time.monotonic)


def quiet(epoch: int, epochs: int, loss: float | None = None) -> None:
    """Says nothing."""


def blobs_of(
    count: int, rng: np.random.Generator, spread: float = 1.5
) -> tuple[Floats, NDArray[np.int64]]:
    """Returns three clouds of points in 6 dimensions, within 0 to 16."""
    labels = np.arange(count, dtype=np.int64) % 3
    centres = 4 + 6 * np.eye(3).repeat(2, axis=1)
    points = centres[labels] + rng.normal(0, spread, (count, 6))
    return np.clip(points, 0, 16).astype(np.float32), labels


def write_base(folder: Path, train: int = 90, calibration: int = 600, seed: int = 7) -> Path:
    """Writes a base set of clouds."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for name, count in (("train", train), ("calibration", calibration)):
        inputs, labels = blobs_of(count, rng)
        np.savez(folder / f"{name}.npz", x=inputs, y=labels)
    return folder


def order_in(folder: Path, base: Path, *, changes: Any = (), **training: Any) -> Order:
    """Writes the order of first models, and returns it.

    Args:
        folder: the job's.
        base: the base set.
        changes: of the order.
        training: of the training section.
    """
    small = {"hidden": (32,), "augmented_copies": 3, "learning_rate": 0.01}
    settings = TrainingConfig.model_validate(
        {"base": base, "first_job": folder, "input_maximum": 16.0, "tier2": small, **training},
        strict=False,
    )
    whole: dict[str, Any] = {
        "pipeline": "meter", "labels": LABELS, "input_shape": (6,), "promise": PROMISE,
        "training": settings.model_dump(mode="json"), **dict(changes),
    }  # fmt: skip
    order = Order(**whole)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ORDER).write_bytes(msgspec.json.encode(order))
    return order


def job(tier: Tier, seed: int = 1, **model: Any) -> Job:
    """Returns a trainer's job on the clouds."""
    return Job(
        pipeline="meter", tier=tier, labels=LABELS, input_shape=(6,), input_maximum=16.0,
        seed=seed, model=ModelConfig.model_validate({"hidden": (16,), **model}),
    )  # fmt: skip


def labelled(count: int, seed: int) -> Samples:
    """Returns clouds with their labels."""
    inputs, labels = blobs_of(count, np.random.default_rng(seed))
    return Samples.of(inputs, labels, BASE)


def taught(count: int, seed: int) -> Samples:
    """Returns clouds with a teacher's probabilities, which are right, and without labels."""
    inputs, labels = blobs_of(count, np.random.default_rng(seed))
    teacher = np.full((count, 3), 0.02, np.float32)
    teacher[np.arange(count), labels] = 0.96
    return Samples.of(inputs, np.full(count, NOT_LABELLED), BASE, teacher)


def network_of(
    kind: Kind = "mlp",
    shape: tuple[int, ...] = (6,),
    image_shape: tuple[int, int] | None = None,
    *,
    seed: int = 1,
    scale: float = 1 / 16,
    channels: tuple[int, ...] = (5, 7),
    kernel: int = 3,
    hidden: tuple[int, ...] = (16, 8),
) -> Network:
    """Returns a network with random weights and biases."""
    planes = planes_of(kind, shape, image_shape)
    assert planes is not None
    rng = np.random.default_rng(seed)
    network = initial(
        kind, shape, planes, scale,
        channels=channels, kernel=kernel, hidden=hidden, labels=3, rng=rng,
    )  # fmt: skip
    for layer in network.layers:
        layer.bias[:] = rng.normal(0, 0.3, layer.bias.shape)
    return network


def logits_of(network: Network, inputs: Floats) -> Floats:
    """Returns what a network answers, computed by numpy alone."""
    value = inputs.astype(np.float64) * network.scale
    for conv in network.convs:
        value = value.reshape(len(value), *network.planes) if conv is network.convs[0] else value
        value = _pooled(np.maximum(_convolved(value, conv.weight, conv.bias), 0), conv.pool)
    value = value.reshape(len(value), -1)
    for layer in network.dense[:-1]:
        value = np.maximum(value @ layer.weight + layer.bias, 0)
    return np.asarray(value @ network.dense[-1].weight + network.dense[-1].bias, np.float32)


def _convolved(value: NDArray[Any], weight: Floats, bias: Floats) -> NDArray[Any]:
    window = weight.shape[2:]
    margin = [(0, 0), (0, 0), *((width // 2, width // 2) for width in window)]
    padded, size = np.pad(value, margin), value.shape[2:]
    result = np.zeros((len(value), len(weight), *size)) + bias.reshape(1, -1, *(1 for _ in window))
    for tap in np.ndindex(*window):
        part = tuple(slice(at, at + length) for at, length in zip(tap, size, strict=True))
        weights = weight[(slice(None), slice(None), *tap)]
        result += np.einsum("nc...,fc->nf...", padded[(slice(None), slice(None), *part)], weights)
    return result


def _pooled(value: NDArray[Any], pool: tuple[int, ...]) -> NDArray[Any]:
    sizes = [length // width for length, width in zip(value.shape[2:], pool, strict=True)]
    whole = [slice(0, count * width) for count, width in zip(sizes, pool, strict=True)]
    cut = value[(slice(None), slice(None), *whole)]
    pairs = itertools.chain.from_iterable(zip(sizes, pool, strict=True))
    split = cut.reshape(*value.shape[:2], *pairs)
    return np.asarray(split.max(axis=tuple(range(3, split.ndim, 2))))
