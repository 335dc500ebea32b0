"""Four classifiers of common shapes, trained on the spot, to be made smaller and faster.

The perceptrons are trained whole. The networks with convolutions have random filters, whose outputs
a trained perceptron reads: good enough to lose accuracy, and trained in seconds without PyTorch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

SEED = 7
INPUT, OUTPUT = "x", "logits"

Floats = NDArray[np.float32]
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Trained:
    """A classifier and the samples that it was not trained on.

    Attributes:
        model: a float32 ONNX file of input ``x`` and output ``logits``.
        calibration: inputs that it was trained on, [N, *shape].
        test: others, [M, *shape].
        labels: the right answers to these, [M].
    """

    model: bytes
    calibration: Floats
    test: Floats
    labels: Whole


def mlp_64() -> Trained:
    """Returns a perceptron 64-128-64-10 on the UCI digits of 8 by 8 pixels."""
    inputs, labels = load_digits(return_X_y=True)
    return perceptron(inputs / 16, labels, (128, 64), 60)


def mlp_561() -> Trained:
    """Returns a perceptron 561-1024-512-6 on made-up features, as many as of UCI's HAR set."""
    inputs, labels = make_classification(
        4000, 561, n_informative=40, n_redundant=200, n_classes=6, class_sep=3, random_state=SEED
    )
    return perceptron(inputs / 10, labels, (1024, 512), 4)


def cnn_1d() -> Trained:
    """Returns 9 by 128 → 32 and 64 filters of 5, pooled by 2 → 64 → 6 on made-up motion."""
    rng = np.random.default_rng(SEED)
    labels = rng.integers(0, 6, 4000)
    time = np.arange(128) / 128
    tempo = 3 + labels[:, None] + rng.normal(0, 0.1, (4000, 9)) + rng.normal(0, 0.25, (4000, 1))
    phase = rng.normal(0, 0.5, (4000, 9))
    waves = np.sin(2 * np.pi * tempo[:, :, None] * time + phase[:, :, None])
    inputs = waves + rng.normal(0, 1.5, waves.shape)
    return convolutional(inputs, labels, [(32, 9, 5), (64, 32, 5)], 2)


def cnn_2d() -> Trained:
    """Returns 28 by 28 → 16 and 32 filters of 3 by 3, pooled by 2 → 64 → 10 on digits."""
    images, labels = load_digits(return_X_y=True)
    large = np.kron(images.reshape(-1, 1, 8, 8) / 16, np.ones((1, 1, 3, 3)))
    inputs = np.pad(large, ((0, 0), (0, 0), (2, 2), (2, 2)))
    return convolutional(inputs, labels, [(16, 1, 3, 3), (32, 16, 3, 3)], 2)


SHAPES: Mapping[str, Callable[[], Trained]] = {
    "MLP-64": mlp_64,
    "MLP-561": mlp_561,
    "1-D CNN": cnn_1d,
    "2-D CNN": cnn_2d,
}


def perceptron(
    inputs: NDArray[Any], labels: NDArray[Any], hidden: Sequence[int], epochs: int
) -> Trained:
    """Trains a perceptron on one half of some samples.

    Args:
        inputs: [N, features].
        labels: [N], from 0 on.
        hidden: units of each hidden layer.
        epochs: of the training, at most.
    """
    train, test = _split(len(inputs))
    inputs = inputs.astype(np.float32)
    layers = _trained(inputs[train], labels[train], hidden, epochs)
    nodes, constants = _dense(layers, INPUT)
    model = _model(nodes, constants, inputs.shape[1:], layers[-1][1].size)
    return Trained(model, inputs[train], inputs[test], labels[test].astype(np.int64))


def convolutional(
    inputs: NDArray[Any], labels: NDArray[Any], filters: Sequence[tuple[int, ...]], pool: int
) -> Trained:
    """Trains a perceptron of 64 units on what random filters make of one half of some samples.

    Args:
        inputs: [N, channels, *size].
        labels: [N], from 0 on.
        filters: shape of each convolution's weights.
        pool: each convolution is followed by a max-pool of this size.
    """
    train, test = _split(len(inputs))
    inputs = inputs.astype(np.float32)
    nodes, constants, value = [], dict[str, NDArray[Any]](), INPUT
    rng = np.random.default_rng(SEED)
    for number, shape in enumerate(filters):
        spread = np.sqrt(2 / np.prod(shape[1:]))
        constants[f"f{number}"] = (rng.standard_normal(shape) * spread).astype(np.float32)
        constants[f"c{number}"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
        nodes += _block(number, value, shape[2:], pool)
        value = f"p{number}"
    nodes.append(helper.make_node("Flatten", [value], ["flat"]))
    flat = _model(nodes, constants, inputs.shape[1:], None, "flat")
    features = ort.InferenceSession(flat).run(None, {INPUT: inputs[train]})[0]
    layers = _trained(features, labels[train], (64,), 15)
    dense, more = _dense(layers, "flat")
    model = _model([*nodes, *dense], constants | more, inputs.shape[1:], layers[-1][1].size)
    return Trained(model, inputs[train], inputs[test], labels[test].astype(np.int64))


def _block(number: int, value: str, kernel: Sequence[int], pool: int) -> list[NodeProto]:
    """Returns a convolution of the same size, its ReLU, and a max-pool."""
    pads = [size // 2 for size in kernel] * 2
    window = [pool] * len(kernel)
    return [
        helper.make_node(
            "Conv",
            [value, f"f{number}", f"c{number}"],
            [f"s{number}"],
            kernel_shape=kernel,
            pads=pads,
        ),
        helper.make_node("Relu", [f"s{number}"], [f"r{number}"]),
        helper.make_node(
            "MaxPool", [f"r{number}"], [f"p{number}"], kernel_shape=window, strides=window
        ),
    ]


def _trained(
    inputs: Floats, labels: NDArray[Any], hidden: Sequence[int], epochs: int
) -> list[tuple[Floats, Floats]]:
    """Returns weights and biases of a perceptron's layers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = MLPClassifier(hidden, max_iter=epochs, random_state=SEED).fit(inputs, labels)
    return [
        (weights.astype(np.float32), biases.astype(np.float32))
        for weights, biases in zip(fitted.coefs_, fitted.intercepts_, strict=True)
    ]


def _dense(
    layers: Sequence[tuple[Floats, Floats]], value: str
) -> tuple[list[NodeProto], dict[str, NDArray[Any]]]:
    nodes, constants = [], dict[str, NDArray[Any]]()
    for number, (weights, biases) in enumerate(layers):
        last = number == len(layers) - 1
        constants |= {f"w{number}": weights, f"b{number}": biases}
        sums = OUTPUT if last else f"z{number}"
        nodes.append(helper.make_node("Gemm", [value, f"w{number}", f"b{number}"], [sums]))
        if not last:
            value = f"h{number}"
            nodes.append(helper.make_node("Relu", [sums], [value]))
    return nodes, constants


def _model(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, NDArray[Any]],
    shape: tuple[int, ...],
    labels: int | None,
    output: str = OUTPUT,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", labels])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _split(count: int) -> tuple[Whole, Whole]:
    order = np.random.default_rng(SEED).permutation(count)
    return order[: count // 2], order[count // 2 :]
