"""From a model to the candidate that is kept: what a model does on the way harms nobody."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from cloud.optimize.measuring import MeasuringJob
from cloud.optimize.optimizer import Optimized, Samples, optimize
from cloud.optimize.recipes import RECIPES
from cloud.optimize.rows import Budget, Figures
from cloud.optimize.workshop import Workshop
from shared.errors import ArtefactError, StorageError
from shared.inputs import Inputs, InputSpec
from shared.releases.confined_process import ProcessLimits
from tests.builders import LABELS, diagonal_onnx, echo_onnx, nan_onnx
from tests.hostile_models import (
    adding,
    crashes_on_x86,
    endless,
    external_tensor,
    memory_eater,
    with_operator,
)
from tests.onnx_models import FLOAT, onnx_file
from tests.small_nets import (
    answers_of,
    digits_cnn,
    digits_perceptron,
    figures,
    layout,
    samples,
)

BY_NAME = {recipe.name: recipe for recipe in RECIPES}
FEW = [BY_NAME[name] for name in ("static-u8s8", "weights", "static-u8s8-head", "dynamic-u8")]


def fixed(found: Mapping[str, Figures | str]) -> Any:
    """Returns a measurement that gives the same figures every time; all else gains nothing."""

    def measure(workshop: Workshop, job: MeasuringJob, ends_s: float) -> dict[str, Figures | str]:
        return {name: found.get(name, figures()) for name in job.candidates}

    return measure


# What comes out


@pytest.fixture(scope="module")
def of_cnn() -> Optimized:
    """The digits' network, as it is measured here."""
    trained = digits_cnn()
    return optimize(trained.model, samples(trained), layout(trained), recipes=FEW)


def test_every_candidate_is_in_the_report_with_figures_or_a_reason(of_cnn: Optimized) -> None:
    rows = of_cnn.report.rows
    assert [row.name for row in rows] == ["fp32", *(recipe.name for recipe in FEW)]
    for row in rows:
        assert row.loads
        assert row.figures is not None
        assert (row.reason == "") is (row.name == of_cnn.report.kept)
        assert row.bytes == len(of_cnn.models[row.name])
    assert "depends on the other samples" in rows[-1].reason or "slower" in rows[-1].reason


def test_what_is_kept_answers_like_the_float32_model(of_cnn: Optimized) -> None:
    trained = digits_cnn()
    assert of_cnn.kept.name in {recipe.name for recipe in FEW[:3]}
    assert of_cnn.model == of_cnn.models[of_cnn.kept.name]
    before, after = (
        answers_of(data, trained.test).argmax(axis=1) for data in (trained.model, of_cnn.model)
    )
    assert (before == after).mean() > 0.97


def test_the_report_says_what_the_figures_rest_on(of_cnn: Optimized) -> None:
    report = of_cnn.report
    assert (report.labels, report.scores) == (10, "logits")
    assert (report.calibrated, report.labelled) == (128, 256)
    assert report.machine.threads == 1
    assert report.seconds > 0


def test_the_same_seed_gives_the_same_files_and_the_same_choice() -> None:
    trained = digits_perceptron()
    measure = fixed({"weights": figures(speed_1=1.1)})

    def run(seed: int) -> Optimized:
        more = Samples(np.repeat(trained.calibration, 2, axis=0), trained.test, trained.labels)
        return optimize(
            trained.model, more, layout(trained), recipes=FEW[:2], seed=seed, measure=measure
        )

    one, again, other = run(1), run(1), run(2)
    assert one.models == again.models
    assert msgspec.structs.replace(one.report, seconds=0) == msgspec.structs.replace(
        again.report, seconds=0
    )
    assert one.models["static-u8s8"] != other.models["static-u8s8"]  # other rows calibrate


def test_the_model_that_came_is_among_the_files(of_cnn: Optimized) -> None:
    assert of_cnn.models["fp32"] == digits_cnn().model


def test_a_candidate_that_was_lucky_once_is_not_kept() -> None:
    """The first measurement finds it fast, the longer one slow."""
    trained = digits_perceptron()
    asked: list[Sequence[str]] = []

    def measure(workshop: Workshop, job: MeasuringJob, ends_s: float) -> dict[str, Figures | str]:
        asked.append(list(job.candidates))
        lucky = figures(speed_1=1.5) if len(asked) == 1 else figures(speed_1=0.8)
        return {name: lucky if name == "static-u8s8" else figures() for name in job.candidates}

    found = optimize(
        trained.model, samples(trained), layout(trained), recipes=FEW[:2], measure=measure
    )
    assert asked == [["fp32", "static-u8s8", "weights"], ["static-u8s8"], ["weights"]]
    assert found.kept.name == "weights"
    assert found.report.rows[1].reason == "slower than fp32 at one sample: 0.80x"


def test_a_candidate_that_there_is_no_time_to_confirm_is_kept_as_it_was_found() -> None:
    trained = digits_perceptron()

    def measure(workshop: Workshop, job: MeasuringJob, ends_s: float) -> dict[str, Figures | str]:
        if len(job.candidates) == 1:
            return {"weights": "not measured: the time was up"}
        return {name: figures() for name in job.candidates}

    found = optimize(
        trained.model, samples(trained), layout(trained), recipes=FEW[1:2], measure=measure
    )
    assert found.kept.name == "weights"


def test_where_there_is_no_time_to_measure_anything_the_float32_model_is_kept() -> None:
    trained = digits_perceptron()

    def measure(workshop: Workshop, job: MeasuringJob, ends_s: float) -> dict[str, Figures | str]:
        return workshop.measure(job, 0.0)

    found = optimize(
        trained.model, samples(trained), layout(trained), recipes=FEW[1:2], measure=measure
    )
    assert found.model == trained.model
    assert found.report.why == "fp32 is kept: there was no time to measure anything"
    assert [row.reason for row in found.report.rows] == ["not measured: the time was up"] * 2
    assert found.report.claims == []


def test_the_budget_decides_and_is_in_the_report() -> None:
    trained = digits_perceptron()
    strict = Budget(min_speed_1=2.0)
    found = optimize(
        trained.model, samples(trained), layout(trained),
        recipes=FEW[1:2], budget=strict, measure=fixed({}),
    )  # fmt: skip
    assert found.kept.is_source
    assert found.report.budget == strict


def test_the_progress_names_every_candidate() -> None:
    trained = digits_perceptron()
    said: list[str] = []
    optimize(trained.model, samples(trained), layout(trained), recipes=FEW[1:2], say=said.append)
    assert said[:3] == ["making weights (1 of 1)", "measuring fp32 (1 of 2)",
                        "measuring weights (2 of 2)"]  # fmt: skip


# Inputs as a node takes them


def test_a_model_of_two_inputs_is_fed_by_their_names() -> None:
    rng = np.random.default_rng(1)
    data = onnx_file(
        [
            onnx.helper.make_node("Flatten", ["window"], ["flat"]),
            onnx.helper.make_node("Concat", ["flat", "speed"], ["all"], axis=1),
            onnx.helper.make_node("MatMul", ["all", "w"], ["y"]),
        ],
        [("window", FLOAT, ["N", 4, 16]), ("speed", FLOAT, ["N", 1])],
        [("y", FLOAT, ["N", 5])],
        {"w": rng.normal(0, 1, (65, 5)).astype(np.float32)},
    )
    inputs = Inputs([InputSpec((4, 16), "window"), InputSpec((1,), "speed")])
    rows = rng.normal(0, 1, (300, 65)).astype(np.float32)
    found = optimize(data, Samples(rows[:100], rows[100:]), inputs, recipes=FEW[:2])
    assert all(row.loads for row in found.report.rows)
    assert found.report.labelled == 0


def test_one_score_a_sample_is_a_classifier_of_two() -> None:
    rng = np.random.default_rng(1)
    data = onnx_file(
        [
            onnx.helper.make_node("MatMul", ["x", "w"], ["sum"]),
            onnx.helper.make_node("Sigmoid", ["sum"], ["y"]),
        ],
        [("x", FLOAT, ["N", 300])],
        [("y", FLOAT, ["N", 1])],
        {"w": rng.normal(0, 0.1, (300, 1)).astype(np.float32)},
    )
    rows = rng.normal(0, 1, (100, 300)).astype(np.float32)
    report = optimize(
        data, Samples(rows[:50], rows[50:]), Inputs.plain((300,)), recipes=FEW[:2]
    ).report
    assert (report.labels, report.scores) == (2, "probabilities")
    assert all(row.loads for row in report.rows)


# Models that nobody should have to run

THREE = Samples(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32))
PLAIN = Inputs.plain((len(LABELS),))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"no model", "not an ONNX file", id="no-model"),
        pytest.param(
            bytes(adding(external_tensor()).SerializeToString()), "numbers lie in another file",
            id="external-data",
        ),
        pytest.param(with_operator("Frob", "evil"), "is of domain 'evil'", id="foreign-domain"),
        pytest.param(nan_onnx(), "the float32 model cannot be measured: .*NaN", id="nan"),
        pytest.param(echo_onnx(4), "does not take samples of shape", id="another-shape"),
        pytest.param(
            memory_eater(), "Failed to allocate memory", id="eats-memory",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="what Linux alone offers"),
        ),
        pytest.param(
            crashes_on_x86(), r"crashed the process that tried it \(signal 8\)", id="crashes",
            marks=pytest.mark.skipif("platform.machine() not in ('x86_64', 'AMD64')"),
        ),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_run_is_refused_in_words(data: bytes, reason: str) -> None:
    with pytest.raises(ArtefactError, match=reason):
        optimize(data, THREE, PLAIN, recipes=FEW[1:2])


def test_an_endless_model_ends_with_the_time_that_was_given() -> None:
    with pytest.raises(ArtefactError, match=r"did not answer within|of processor time"):
        optimize(endless(), THREE, PLAIN, recipes=FEW[1:2], budget_s=1.0)


@pytest.mark.skipif("platform.machine() not in ('x86_64', 'AMD64')")
def test_a_candidate_that_ends_its_process_does_not_end_the_others(tmp_path: Path) -> None:
    """The file of one candidate is swapped for one that crashes whoever runs it."""
    crashing = tmp_path / "crashing.onnx"
    crashing.write_bytes(crashes_on_x86())

    def measure(workshop: Workshop, job: MeasuringJob, ends_s: float) -> dict[str, Figures | str]:
        swapped = {n: crashing if n == "static-u8s8" else p for n, p in job.candidates.items()}
        return workshop.measure(msgspec.structs.replace(job, candidates=swapped), ends_s)

    recipes = [BY_NAME[name] for name in ("static-u8s8", "static-s8s8")]
    found = optimize(diagonal_onnx(1.0), THREE, PLAIN, recipes=recipes, measure=measure)
    _, crashed, other = found.report.rows
    assert crashed.reason == "the model crashed the process that tried it (signal 8)"
    assert other.loads
    assert "static-u8s8" not in found.models


def test_a_child_has_no_more_memory_than_it_may() -> None:
    trained = digits_perceptron()
    with pytest.raises(ArtefactError, match=r"memory|alloc|crashed"):
        optimize(
            trained.model, samples(trained), layout(trained),
            recipes=FEW[:1], limits=ProcessLimits(memory_bytes=2**20),
        )  # fmt: skip


# What does not fit


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param(Samples(np.zeros((0, 3)), np.eye(3)), "no calibration input", id="nothing"),
        pytest.param(Samples(np.eye(3), np.zeros((0, 3))), "no test input", id="nothing-to-test"),
        pytest.param(Samples(np.eye(3), np.eye(4)), "test inputs are of shape .4.", id="shape"),
        pytest.param(
            Samples(np.eye(3), np.eye(3), np.zeros(2, np.int64)), "for 3 test inputs", id="labels"
        ),
        pytest.param(
            Samples(THREE.calibration, THREE.test, np.array([0, 1, 3])),
            "there is a label 3, and the model gives 3 scores", id="label-out-of-range",
        ),
    ],
)  # fmt: skip
def test_samples_that_do_not_fit_are_refused_in_words(given: Samples, reason: str) -> None:
    with pytest.raises(ArtefactError, match=reason):
        optimize(diagonal_onnx(1.0), given, PLAIN, recipes=FEW[1:2])


def test_no_folder_for_the_work_is_the_disks_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(StorageError, match="cannot start the optimisation"):
        optimize(diagonal_onnx(1.0), THREE, PLAIN, recipes=FEW[1:2])
