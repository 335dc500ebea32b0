"""The examples of docs/models.md are valid, and models of their kind load and answer."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from onnx import helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from shared.errors import ArtefactError
from shared.inputs import Inputs
from shared.model_feed import Feed, Port
from shared.scores import well_formed
from shared.serving import load_local
from tests.onnx_models import FLOAT, PortSpec, onnx_file
from tier1.config import Tier1PipelineConfig

DOCUMENT = (Path(__file__).parents[1] / "docs" / "models.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)


def linear(size: int, labels: int, *more: Any, scores: str = "y") -> bytes:
    """A model of one matrix, with more operations behind it."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    shape: list[int | str | None] = [None, 3, 32, 32] if size == 3072 else [None, size]
    outputs: list[PortSpec] = [("y", FLOAT, [None, labels])]
    if scores != "y":
        outputs.append((scores, FLOAT, [None, labels]))
    weights = np.random.default_rng(1).normal(0, 0.1, (size, labels)).astype(np.float32)
    return onnx_file([*nodes, *more], [("x", FLOAT, shape)], outputs, {"w": weights})


def sigmoid() -> bytes:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sigmoid", ["mean"], ["y"]),
    ]
    return onnx_file(nodes, [("x", FLOAT, [None, 64])], [("y", FLOAT, [None, 1])])


def two_inputs() -> bytes:
    nodes = [
        helper.make_node("ReduceMean", ["window"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["tilt"]),
        helper.make_node("Concat", ["tilt", "speed"], ["y"], axis=1),
    ]
    ports: list[PortSpec] = [("window", FLOAT, [None, 3, 128]), ("speed", FLOAT, [None, 1])]
    return onnx_file(nodes, ports, [("y", FLOAT, [None, 2])], {"column": np.array([-1, 1])})


def iris() -> bytes:
    flowers, species = load_iris(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # skl2onnx uses old names of numpy's
        from skl2onnx import to_onnx

        classifier = LogisticRegression(max_iter=300).fit(flowers, species)
        return bytes(to_onnx(classifier, flowers[:1].astype(np.float32)).SerializeToString())


MODELS = {
    "logits.onnx": lambda: linear(64, 3),
    "two-outputs.onnx": lambda: linear(
        64, 3, helper.make_node("Softmax", ["y"], ["probabilities"]), scores="probabilities"
    ),
    "sigmoid.onnx": sigmoid,
    "image.onnx": lambda: linear(3072, 2),
    "two-inputs.onnx": two_inputs,
    "iris.onnx": iris,
}


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_is_valid_and_a_model_of_its_kind_answers(example: str, tmp_path: Path) -> None:
    fields = yaml.safe_load(example)
    path = fields["model"]["path"]
    (tmp_path / path).write_bytes(MODELS[path]())
    (tmp_path / "labels.txt").write_text("good\nscratched\nbent\n")
    context = {"environment": {}, "folder": tmp_path}
    config = Tier1PipelineConfig.model_validate_json(json.dumps(fields), context=context)
    assert config.model is not None
    model = load_local("quality", config.model, config)
    rows = np.ones((3, *config.layout.shape), config.layout.dtype)
    scored = model.infer(rows)
    assert scored.probabilities.shape == (3, len(model.spec.labels))
    assert well_formed(scored.probabilities).all()


def test_every_kind_of_model_is_in_an_example() -> None:
    assert {yaml.safe_load(example)["model"]["path"] for example in EXAMPLES} == set(MODELS)


def test_the_error_that_is_shown_is_the_one_that_comes() -> None:
    port = Port("x", "tensor(float)", ("N", 1, 28, 28))
    with pytest.raises(ArtefactError) as refusal:
        Feed([port], Inputs.plain((784,)))
    assert f"the model of quality: {refusal.value}\n" in DOCUMENT
