"""Models as users have them, in real nodes: from a sensor's message to the prediction."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from shared.messages import Escalation, unpack
from tests.integration.hierarchy import Hierarchy, Json, Observer
from tests.onnx_models import FLOAT, PortSpec, onnx_file

IMAGE: list[float] = [10, 20, 200, 250]  # JSON integers
ESCALATION = {"deadline_ms": 2000, "audit_share": 0}


def halves_onnx(sign: float) -> bytes:
    """Logits: ``sign`` times the sum of either half of an image of 1 x 2 x 2."""
    weights = sign * np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    return onnx_file(
        nodes,
        [("pixels", FLOAT, [1, 1, 2, 2])],
        [("logits", FLOAT, [1, 2])],
        {"w": weights},
        {"names": "{0: 'dark', 1: 'bright'}"},
    )


def fusion_onnx() -> bytes:
    """Logits: a level of one number beside one of two."""
    node = helper.make_node("Concat", ["level", "levels"], ["logits"], axis=1)
    ports: list[PortSpec] = [("level", FLOAT, ["N", 1]), ("levels", FLOAT, ["N", 2])]
    return onnx_file([node], ports, [("logits", FLOAT, ["N", 3])])


def iris_onnx() -> bytes:
    """A scikit-learn classifier as skl2onnx writes it by default: a label, and maps."""
    flowers, species = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[species]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # skl2onnx uses old names of numpy's
        from skl2onnx import to_onnx

        classifier = LogisticRegression(max_iter=300).fit(flowers, names)
        return bytes(to_onnx(classifier, flowers[:1].astype(np.float32)).SerializeToString())


def pipelines(folder: Path, *, turned: bool, threshold: float) -> Json:
    """Three kinds of models; ``turned`` ones answer an image the other way round."""
    image = "turned.onnx" if turned else "image.onnx"
    return {
        "image": {
            "input": {"shape": [1, 2, 2], "dtype": "uint8", "mean": 100, "scale": 200},
            "model": {"path": str(folder / image), "scores": "logits", "threshold": threshold},
        },
        "iris": {"input": {"shape": [4]}, "model": {"path": str(folder / "iris.onnx")}},
        "fusion": {
            "inputs": {"levels": {"shape": [2]}, "level": {"shape": [1], "scale": 0.1}},
            "inference": "thread",
            "model": {
                "path": str(folder / "fusion.onnx"),
                "labels": ["low", "middle", "high"],
                "scores": "logits",
                "score": "margin",
                "threshold": 0.5,
            },
        },
    }


@pytest.fixture(scope="module")
def site(require_mosquitto: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observer]:
    """A tier-1 node that asks about every image, and a tier-2 node that answers otherwise."""
    with Hierarchy(tmp_path_factory.mktemp("kinds"), "mosquitto") as hierarchy:
        folder = hierarchy.folder
        (folder / "image.onnx").write_bytes(halves_onnx(1.0))
        (folder / "turned.onnx").write_bytes(halves_onnx(-1.0))
        (folder / "iris.onnx").write_bytes(iris_onnx())
        (folder / "fusion.onnx").write_bytes(fusion_onnx())
        full = pipelines(folder, turned=True, threshold=0)
        small = {
            name: {**pipeline, "escalation": ESCALATION, "probabilities": True}
            for name, pipeline in pipelines(folder, turned=False, threshold=1).items()
        }
        hierarchy.start("tier2", "full-1", {"pipelines": full})
        hierarchy.start("tier1", "edge-1", {"pipelines": small})
        with hierarchy.observer() as observer:
            yield observer


def test_bytes_travel_raw_and_each_tier_normalises_for_its_own_model(site: Observer) -> None:
    since = site.mark()
    answer = site.ask(IMAGE, pipeline="image")
    assert (answer["decided_by"], answer["prediction"]) == ("tier2", "dark")
    odds = np.exp(np.array([200 - 10 - 20, 200 - 200 - 250]) / 200)
    assert answer["confidence"] == pytest.approx(odds[0] / odds.sum(), rel=1e-4)
    (asked,) = site.seen("/image/escalations/", since)
    inputs = unpack(asked.payload, Escalation).inputs.array()
    assert (inputs.dtype.name, inputs.shape) == ("uint8", (1, 1, 2, 2))
    assert inputs.ravel().tolist() == IMAGE


def test_a_scikit_learn_classifier_brings_its_labels(site: Observer) -> None:
    answer = site.ask([5.1, 3.5, 1.4, 0.2], pipeline="iris")
    assert (answer["decided_by"], answer["prediction"]) == ("tier1", "setosa")
    assert answer["probabilities"].keys() == {"setosa", "versicolor", "virginica"}


def test_a_model_of_two_inputs_answers_from_its_thread(site: Observer) -> None:
    answer = site.ask([2.0, 9.0, 0.3], pipeline="fusion")
    assert (answer["decided_by"], answer["prediction"]) == ("tier1", "high")
    logits = np.exp([3.0, 2.0, 9.0])
    expected = dict(zip(["low", "middle", "high"], logits / logits.sum(), strict=True))
    assert answer["probabilities"] == pytest.approx(expected, rel=1e-3)


def test_what_is_no_byte_is_refused_and_the_node_goes_on(site: Observer) -> None:
    since = site.mark()
    site.send([10, 20, 200, 256], pipeline="image")
    site.send([10, 20, 200, 25.5], pipeline="image")
    errors = site.until(lambda: site.seen("/image/errors/", since)[1:], "two errors")
    assert all("255" in json.loads(error.payload)["expected"] for error in errors)
    assert site.ask(IMAGE, pipeline="image")["prediction"] == "dark"
