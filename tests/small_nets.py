"""Small classifiers of real images, trained once for all tests that make them smaller."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from bench.four_shapes import Trained, convolutional, perceptron
from cloud.optimize.optimizer import Samples
from cloud.optimize.rows import Figures
from shared.inputs import Inputs


@functools.cache
def digits_perceptron() -> Trained:
    """Returns a perceptron 64-48-32-10 on the UCI digits."""
    inputs, labels = load_digits(return_X_y=True)
    return perceptron(inputs / 16, labels, (48, 32), 40)


@functools.cache
def digits_cnn() -> Trained:
    """Returns two convolutions, with ReLU and max-pool each, and two dense layers, on digits."""
    images, labels = load_digits(return_X_y=True)
    filters = [(6, 1, 3, 3), (12, 6, 3, 3)]
    return convolutional(images.reshape(-1, 1, 8, 8) / 16, labels, filters, 2)


def samples(trained: Trained) -> Samples:
    """Returns what a classifier's candidates are calibrated and tested on."""
    return Samples(trained.calibration[:128], trained.test[:256], trained.labels[:256])


def layout(trained: Trained) -> Inputs:
    """Returns how a row of its inputs is laid out."""
    return Inputs.plain(trained.test.shape[1:])


def figures(**changes: Any) -> Figures:
    """Returns the figures of a candidate that gains nothing and costs nothing, with changes."""
    level: dict[str, Any] = {
        "latency_1_ms": 0.02,
        "latency_32_ms": 0.4,
        "speed_1": 1.0,
        "speed_32": 1.0,
        "accuracy": 0.95,
        "source_accuracy": 0.95,
        "agreement": 1.0,
        "neighbour_shift": 0.0,
        "tested": 256,
        "pairs": 15,
    }
    return Figures(**(level | changes))


def answers_of(data: bytes, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns what an ONNX file of one input answers, asked by ONNX Runtime alone."""
    import onnxruntime as ort

    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    (first, *_) = session.run(None, {session.get_inputs()[0].name: rows})
    return np.asarray(first)
