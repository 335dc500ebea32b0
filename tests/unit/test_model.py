"""A model serves only if it loads, runs and fits what is said of it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from onnx import helper

from shared.errors import ArtefactError
from shared.inputs import Inputs, InputSpec
from shared.model import Model, cpu_quota
from shared.model_spec import Calibration
from shared.scores import ScoreName, well_formed
from tests.builders import SHAPE, diagonal_onnx, echo_onnx, load_echo, nan_onnx, spec
from tests.onnx_models import (
    BYTES,
    DOUBLE,
    FLOAT,
    HALF,
    INT8,
    INT32,
    INT64,
    TEXT,
    Shape,
    cast_onnx,
    load,
    onnx_file,
    rows,
)

THREE = Inputs.plain(SHAPE)


def test_it_answers_the_raw_scores_of_each_sample(tmp_path: Path) -> None:
    model = load(tmp_path, diagonal_onnx(2.0), THREE)
    inputs = rows([1, 2, 3], [0, 0, 1])
    assert_allclose(model.scores(inputs), 2 * inputs)
    assert model.scores(inputs).dtype == np.float32


def test_probabilities_are_calibrated_with_its_own_temperature(tmp_path: Path) -> None:
    calibrations = [Calibration(1.0, 0.5), Calibration(2.0, 0.5)]
    cold, warm = (
        load(tmp_path, diagonal_onnx(1.0), THREE, calibration=calibration).infer(rows([2, 0, 0]))
        for calibration in calibrations
    )
    assert_allclose(cold.probabilities[0, 0], np.e**2 / (np.e**2 + 2), rtol=1e-6)
    assert_allclose(warm.probabilities[0, 0], np.e / (np.e + 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("score", "expected"),
    [("max_probability", 0.8), ("margin", 0.7), ("energy", np.log(10))],
)
def test_its_certainty_is_the_one_of_its_calibration(
    tmp_path: Path, score: ScoreName, expected: float
) -> None:
    calibration = Calibration(1.0, 0.5, score=score)
    model = load(tmp_path, diagonal_onnx(1.0), THREE, calibration=calibration)
    scored = model.infer(np.log(rows([8, 1, 1], [1, 8, 1], [2, 0.5, 7.5])))
    assert_allclose(scored.certainty[:2], [expected] * 2, rtol=1e-5)
    assert scored.probabilities.argmax(axis=1).tolist() == [0, 1, 2]


def test_nan_scores_are_no_error_but_malformed(tmp_path: Path) -> None:
    scored = load(tmp_path, nan_onnx(), THREE).infer(np.ones((2, 3), np.float32))
    assert not well_formed(scored.probabilities).any()
    assert np.isnan(scored.certainty).all()


# What does not load


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not a model at all", id="text"),
        pytest.param(diagonal_onnx(1.0)[:-20], id="truncated"),
    ],
)
def test_a_broken_file_does_not_load(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ArtefactError, match="does not load"):
        load(tmp_path, data, THREE)


def test_a_missing_file_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="does not load"):
        Model.load(tmp_path / "nowhere.onnx", spec(), THREE)


def test_labels_that_are_not_as_many_as_the_scores_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="do the labels fit the model"):
        load(tmp_path, echo_onnx(), THREE, labels=("a", "b"))


def test_an_error_of_the_load_names_file_and_pipeline(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"model\.onnx, the model of meter: its input `x`"):
        load(tmp_path, echo_onnx(4), THREE)


def test_a_batch_inside_the_graph_is_found_at_the_load(tmp_path: Path) -> None:
    data = onnx_file(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [("x", FLOAT, ["N", 3])],
        [("y", FLOAT, ["N", 3])],
        {"shape": np.array([1, -1])},
    )
    with pytest.raises(ArtefactError, match=r"takes one sample, but not 4.*free batch dimension"):
        load(tmp_path, data, THREE)


def test_logits_that_are_said_to_be_probabilities_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(tmp_path, diagonal_onnx(1.0), THREE, scores="probabilities")
    assert "write `scores: logits`" in caplog.text


# What it takes


@pytest.mark.parametrize(
    "element_type", [FLOAT, DOUBLE, HALF, INT32, INT64], ids=["f32", "f64", "f16", "i32", "i64"]
)
def test_it_takes_samples_in_the_type_that_it_was_exported_with(
    tmp_path: Path, element_type: int
) -> None:
    model = load(tmp_path, cast_onnx(element_type, ["N", 3]), THREE)
    assert model.scores(rows([1, 2, 3])).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("element_type", [TEXT, INT8], ids=["texts", "int8"])
def test_an_input_of_another_type_is_refused(tmp_path: Path, element_type: int) -> None:
    with pytest.raises(ArtefactError, match="is none of tensor"):
        load(tmp_path, cast_onnx(element_type, ["N", 3]), THREE)


def test_an_image_of_bytes_is_fed_as_bytes(tmp_path: Path) -> None:
    inputs = Inputs([InputSpec((3,), dtype="uint8")])
    model = load(tmp_path, cast_onnx(BYTES, ["N", 3]), inputs)
    assert model.scores(np.array([[0, 7, 255]], np.uint8)).tolist() == [[0, 7, 255]]


def test_an_image_of_bytes_is_scaled_for_a_model_of_floats(tmp_path: Path) -> None:
    inputs = Inputs([InputSpec((3,), dtype="uint8", mean=(51.0,), scale=(255.0,))])
    model = load(tmp_path, echo_onnx(), inputs)
    assert_allclose(model.scores(np.array([[0, 51, 255]], np.uint8)), [[-0.2, 0, 0.8]])


def test_several_inputs_are_fed_by_name(tmp_path: Path) -> None:
    data = onnx_file(
        [helper.make_node("Mul", ["window", "gain"], ["y"])],
        [("gain", DOUBLE, ["N", 1]), ("window", DOUBLE, ["N", 3])],
        [("y", DOUBLE, ["N", 3])],
    )
    model = load(tmp_path, data, Inputs([InputSpec((3,), "window"), InputSpec((1,), "gain")]))
    assert model.scores(rows([1, 2, 3, 10], [4, 5, 6, 2])).tolist() == [[10, 20, 30], [8, 10, 12]]


@pytest.mark.parametrize("size", [1, 3], ids=["of-one", "of-three"])
def test_a_model_of_a_fixed_batch_answers_any_number_of_samples(
    tmp_path: Path, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        model = load(tmp_path, cast_onnx(FLOAT, [size, 3]), THREE)
    assert f"takes batches of {size} only" in caplog.text
    for count in (1, 3, 7):
        inputs = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
        assert_allclose(model.scores(inputs), inputs)


# What it answers


@pytest.mark.parametrize(
    ("labels", "shape"),
    [(("a", "b", "c"), ["N", 3, 1, 1]), (("no", "yes"), ["N", 1]), (("no", "yes"), ["N"])],
    ids=["a-map-of-one", "a-sigmoid", "a-flat-sigmoid"],
)
def test_other_forms_of_an_output_are_read(
    tmp_path: Path, labels: tuple[str, ...], shape: Shape
) -> None:
    sample = tuple(size for size in shape[1:] if isinstance(size, int)) or (1,)
    to = [0, *([1] * (len(shape) - 1))] if shape[1:] != [3, 1, 1] else [0, 3, 1, 1]
    to = [-1] if len(shape) == 1 else to
    data = onnx_file(
        [helper.make_node("Reshape", ["x", "to"], ["y"])],
        [("x", FLOAT, ["N", *sample])],
        [("y", FLOAT, shape)],
        {"to": np.array(to)},
    )
    model = load(tmp_path, data, Inputs.plain(sample), labels=labels)
    assert model.scores(np.ones((2, *sample), np.float32)).shape == (2, len(labels))


def test_the_output_that_is_named_is_read(tmp_path: Path) -> None:
    data = onnx_file(
        [
            helper.make_node("Identity", ["x"], ["embedding"]),
            helper.make_node("Neg", ["x"], ["logits"]),
        ],
        [("x", FLOAT, ["N", 3])],
        [("embedding", FLOAT, ["N", 3]), ("logits", FLOAT, ["N", 3])],
    )
    model = load(tmp_path, data, THREE, output="logits")
    assert model.scores(rows([1, 2, 3])).tolist() == [[-1, -2, -3]]
    with pytest.raises(ArtefactError, match=r"more than one.*`embedding`.*`logits`.*`output:`"):
        load(tmp_path, data, THREE)


@pytest.mark.parametrize("key", ["labels", "names", "class_names"])
def test_labels_that_are_left_out_are_those_of_the_file(tmp_path: Path, key: str) -> None:
    data = cast_onnx(FLOAT, ["N", 3], metadata={key: '["x", "y", "z"]'})
    assert load(tmp_path, data, THREE, labels=()).spec.labels == ("x", "y", "z")
    assert load(tmp_path, data, THREE).spec.labels == ("a", "b", "c")


def test_labels_that_nobody_gives_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"brings no labels\. Fix: write `labels:`"):
        load(tmp_path, echo_onnx(), THREE, labels=())


def test_labels_in_another_order_than_the_files_are_refused(tmp_path: Path) -> None:
    data = cast_onnx(FLOAT, ["N", 3], metadata={"labels": "b,a,c"})
    with pytest.raises(ArtefactError, match="in this order, b, a, c"):
        load(tmp_path, data, THREE)


# How it runs


def test_a_batch_that_it_cannot_run_is_an_error_and_the_next_one_runs(tmp_path: Path) -> None:
    model = load_echo(tmp_path)
    with pytest.raises(ArtefactError, match="cannot run"):
        model.scores(np.zeros((1, 5), np.float32))
    assert model.scores(np.ones((1, 3), np.float32)).shape == (1, 3)


def test_a_loaded_model_needs_its_file_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    model = load_echo(folder)
    shutil.rmtree(folder)
    assert model.scores(np.ones((1, 3), np.float32)).shape == (1, 3)


def test_no_call_has_more_samples_than_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(tmp_path, cast_onnx(FLOAT, ["N", 3]), THREE, batch_size=4)
    sizes: list[int] = []
    run = model._session.run

    def noting(names: list[str], feeds: dict[str, Any]) -> Any:
        sizes.append(len(next(iter(feeds.values()))))
        return run(names, feeds)

    monkeypatch.setattr(model._session, "run", noting)
    samples = np.arange(30, dtype=np.float32).reshape(10, 3)
    np.testing.assert_array_equal(model.scores(samples), samples)
    assert sizes == [4, 4, 2]
    assert model.expected_ms(10) == pytest.approx(2.5 * model.batch_ms)
    assert model.expected_ms(1) == model.batch_ms


def test_latency_is_a_time(tmp_path: Path) -> None:
    latency_ms = load_echo(tmp_path).latency_ms(np.zeros((1, 3), np.float32), runs=3)
    assert np.isfinite(latency_ms)
    assert latency_ms > 0


def test_a_larger_batch_takes_longer(tmp_path: Path) -> None:
    data = cast_onnx(FLOAT, ["N", 3])
    small, large = (
        load(tmp_path, data, THREE, batch_size=size).batch_ms for size in (2, 1_000_000)
    )
    assert 0 < small < large


@pytest.mark.parametrize(
    ("quota", "threads"),
    [
        pytest.param("100000 100000", 1, id="one-cpu"),
        pytest.param("50000 100000", 1, id="half-a-cpu-still-gets-one"),
        pytest.param("350000 100000", 3, id="three-and-a-half"),
        pytest.param("6400000 100000", 4, id="more-than-there-are"),
        pytest.param("max 100000", 4, id="no-quota"),
        pytest.param("rubbish", 4, id="unreadable"),
    ],
)
def test_threads_follow_the_lesser_of_quota_and_affinity(
    monkeypatch: pytest.MonkeyPatch, quota: str, threads: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(4)), raising=False)
    monkeypatch.setattr(Path, "read_text", lambda self: quota)
    assert cpu_quota() == threads
