"""A trainer of a user's, which knows no more of Escalon than docs/training.md says.

It fits one linear layer by least squares. What else it does, tests ask for.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = NDArray[np.float32]


def fitted(folder: Path, labels: int) -> tuple[Weights, Weights]:
    """Returns weights [features, labels] and biases [labels] of a linear classifier."""
    with np.load(folder / "dataset" / "train.npz") as data:
        inputs, wanted = data["x"], data["y"]
        if "teacher" in data:
            wanted = data["teacher"].argmax(axis=1)
        weight = np.sqrt(data["weight"])[:, None]
    rows = np.concatenate([inputs, np.ones((len(inputs), 1), np.float32)], axis=1)
    target = 8 * np.eye(labels, dtype=np.float32)[wanted] - 4
    solution = np.linalg.lstsq(rows * weight, target * weight, rcond=None)[0].astype(np.float32)
    return solution[:-1], solution[-1]


def linear(weight: Weights, bias: Weights) -> bytes:
    """Returns the layer as an ONNX file: ``features`` [N, features] → ``logits`` [N, labels]."""
    inputs = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", len(weight)])
    outputs = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(bias)])
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["features", "w", "b"], ["logits"])],
        "linear",
        [inputs],
        [outputs],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def heed_signals(options: argparse.Namespace) -> None:
    """Does what a test asks for when it is told to end."""
    if options.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.tidy:
        signal.signal(signal.SIGTERM, lambda *_: (options.tidy.touch(), sys.exit(0)))


def speak(options: argparse.Namespace) -> None:
    """Says what a test asks for."""
    if options.pids:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        written = options.pids.with_suffix(".tmp")
        written.write_text(f"{os.getppid()} {os.getpid()} {child.pid}")
        written.replace(options.pids)
    sys.stdout.write(f"{options.say}\n")
    for _ in range(options.flood // 1000):
        sys.stdout.write("x" * 999 + "\n")
    sys.stdout.flush()


def fail(options: argparse.Namespace) -> None:
    """Fails as a test asks for."""
    bytearray(options.allocate)
    if options.wait:
        threading.Event().wait(600)
    if options.kill:
        os.kill(os.getpid(), options.kill)
    if options.fail_with_environment:
        sys.exit(" ".join(f"{name}={value}" for name, value in os.environ.items()))
    if options.code:
        sys.exit(options.code)


def main() -> None:
    """Trains the model of a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for flag in ("deaf", "wait", "no-model", "nan", "fail-with-environment"):
        parser.add_argument(f"--{flag}", action="store_true")
    for number in ("flood", "allocate", "kill", "code"):
        parser.add_argument(f"--{number}", type=int, default=0)
    for path in ("pids", "tidy"):
        parser.add_argument(f"--{path}", type=Path)
    parser.add_argument("--say", default="")
    options = parser.parse_args()
    heed_signals(options)
    speak(options)
    fail(options)
    job = json.loads((options.folder / "job.json").read_text())
    weight, bias = fitted(options.folder, len(job["labels"]))
    if options.nan:
        weight[0] = np.nan
    if not options.no_model:
        (options.folder / "model.onnx").write_bytes(linear(weight, bias))
    (options.folder / "report.json").write_text('{"notes": "by a program"}')


if __name__ == "__main__":
    main()
