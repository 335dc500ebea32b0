"""A candidate is asked what a node would ask it, and held against the float32 model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from bench.four_shapes import Trained
from cloud.optimize.case import Case, write_rows
from cloud.optimize.measuring import CONFIRMING_PAIRS, Measured, MeasuringJob, measure
from cloud.optimize.preparation import prepare
from cloud.optimize.quantize import make
from cloud.optimize.recipes import Recipe
from cloud.optimize.rows import Figures
from shared.inputs import InputSpec
from tests.small_nets import answers_of, digits_cnn, digits_perceptron

DYNAMIC = Recipe(name="dynamic-u8", kind="dynamic", weights="u8")
WEIGHTS = Recipe(name="weights", kind="weights")


def candidate(folder: Path, data: bytes, recipe: Recipe) -> bytes:
    """Returns a candidate that needs no calibration."""
    path = folder / "source.onnx"
    path.write_bytes(data)
    return make(recipe, prepare(path), lambda method: None)


def measured(
    folder: Path,
    trained: Trained,
    candidates: Mapping[str, bytes],
    labels: NDArray[np.int64] | None = None,
    **changes: Any,
) -> dict[str, Measured]:
    """Returns what came of the candidates of a classifier, the classifier itself among them."""
    paths = {}
    for name, data in {"fp32": trained.model, **candidates}.items():
        paths[name] = folder / f"{name}.onnx"
        paths[name].write_bytes(data)
    case = Case(paths["fp32"], (InputSpec(trained.test.shape[1:]),), "logits", 10)
    whole: dict[str, Any] = {
        "case": case,
        "candidates": paths,
        "rows": write_rows(folder / "rows.npy", trained.test[:200]),
        "labels": None if labels is None else write_rows(folder / "labels.npy", labels),
        "seconds": 600.0,
        "pairs": 5,
    }
    return {step.name: step for step in measure(MeasuringJob(**(whole | changes))) if step.done}


def found(step: Measured) -> Figures:
    assert step.figures is not None, step.reason
    return step.figures


def test_the_float32_model_is_measured_beside_itself(tmp_path: Path) -> None:
    trained = digits_perceptron()
    figures = found(measured(tmp_path, trained, {}, trained.labels[:200])["fp32"])
    assert figures.agreement == 1.0
    assert figures.points_lost == 0.0
    right = answers_of(trained.model, trained.test[:200]).argmax(axis=1) == trained.labels[:200]
    assert figures.accuracy == pytest.approx(right.mean())
    assert figures.neighbour_shift < 1e-4
    assert 0 < figures.latency_1_ms < figures.latency_32_ms
    assert (figures.tested, figures.pairs) == (200, 5)


def test_agreement_and_accuracy_are_those_of_the_candidates_own_answers(tmp_path: Path) -> None:
    trained = digits_perceptron()
    other = onnx.load_model_from_string(trained.model)
    bias = next(tensor for tensor in other.graph.initializer if tensor.name == "b2")
    moved = onnx.numpy_helper.to_array(bias).copy()
    moved[3] += 3
    bias.CopyFrom(onnx.numpy_helper.from_array(moved, "b2"))
    data = other.SerializeToString()
    rows, labels = trained.test[:200], trained.labels[:200]
    figures = found(measured(tmp_path, trained, {"other": data}, labels)["other"])
    answers, before = (answers_of(each, rows).argmax(axis=1) for each in (data, trained.model))
    assert figures.agreement == pytest.approx((answers == before).mean())
    assert figures.accuracy == pytest.approx((answers == labels).mean())
    assert figures.points_lost == pytest.approx(
        100 * ((before == labels).mean() - (answers == labels).mean())
    )
    assert figures.points_lost > 0


def test_samples_without_a_label_count_for_agreement_alone(tmp_path: Path) -> None:
    trained = digits_perceptron()
    labels = np.full(200, -1)
    labels[:10] = answers_of(trained.model, trained.test[:10]).argmax(axis=1)
    step = measured(tmp_path, trained, {}, labels)["fp32"]
    assert (found(step).accuracy, found(step).tested) == (1.0, 200)


def test_without_any_label_agreement_stands_for_accuracy(tmp_path: Path) -> None:
    trained = digits_perceptron()
    data = candidate(tmp_path, trained.model, WEIGHTS)
    for labels in (None, np.full(200, -1)):
        figures = found(measured(tmp_path, trained, {"weights": data}, labels)["weights"])
        assert figures.accuracy is None
        assert figures.points_lost == pytest.approx(100 * (1 - figures.agreement))


@pytest.mark.parametrize("trained", [digits_perceptron(), digits_cnn()], ids=["mlp", "cnn"])
def test_dynamic_ranges_show_in_a_samples_answers_and_stored_weights_do_not(
    trained: Trained, tmp_path: Path
) -> None:
    steps = measured(
        tmp_path,
        trained,
        {each.name: candidate(tmp_path, trained.model, each) for each in (DYNAMIC, WEIGHTS)},
    )
    assert found(steps["dynamic-u8"]).neighbour_shift > 0.002
    assert found(steps["weights"]).neighbour_shift < 1e-4


def test_a_candidate_that_fails_has_a_reason_and_the_next_is_measured(tmp_path: Path) -> None:
    trained = digits_perceptron()
    nan = onnx.load_model_from_string(trained.model)
    bias = next(tensor for tensor in nan.graph.initializer if tensor.name == "b2")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(10, np.nan, np.float32), "b2"))
    unknown = onnx.load_model_from_string(trained.model)
    unknown.graph.node[0].op_type = "Frob"
    steps = measured(
        tmp_path,
        trained,
        {
            "nan": nan.SerializeToString(),
            "frob": unknown.SerializeToString(),
            "nothing": b"no model",
            "good": trained.model,
        },
    )
    assert "NaN or infinity" in steps["nan"].reason
    assert "does not load" in steps["frob"].reason
    assert "not an ONNX file" in steps["nothing"].reason
    assert steps["good"].figures is not None


def test_when_the_time_is_up_nothing_more_is_measured(tmp_path: Path) -> None:
    trained = digits_perceptron()
    steps = measured(tmp_path, trained, {"other": trained.model}, seconds=-1.0)
    assert {step.reason for step in steps.values()} == {"not measured: the time was up"}


def test_a_candidate_is_confirmed_by_more_pairs() -> None:
    path = Path("m.onnx")
    case = Case(path, (InputSpec((3,)),), "logits", 3)
    job = MeasuringJob(case, {"fp32": path, "weights": path, "other": path}, path, None)
    confirming = job.confirming("weights")
    assert list(confirming.candidates) == ["weights"]
    assert confirming.pairs == CONFIRMING_PAIRS > job.pairs


def test_a_model_of_a_fixed_batch_is_measured_as_it_is(tmp_path: Path) -> None:
    trained = digits_perceptron()
    model = onnx.load_model_from_string(trained.model)
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 1
    step = measured(tmp_path, trained, {"one": model.SerializeToString()})["one"]
    assert found(step).agreement == 1.0
