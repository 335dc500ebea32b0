"""A model serves only if it loads, runs and fits what is said of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from shared.errors import ArtefactError
from shared.inputs import Inputs
from shared.model import Model, cpu_quota
from shared.scores import well_formed
from tests.builders import SHAPE, diagonal_onnx, echo_onnx, load_echo, nan_onnx, spec


def load(folder: Path, data: bytes, **changes: object) -> Model:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return Model.load(path, spec(scores="logits", **changes), Inputs.plain(SHAPE))  # type: ignore[arg-type]


def test_it_answers_the_raw_scores_of_each_sample(tmp_path: Path) -> None:
    model = load(tmp_path, diagonal_onnx(2.0))
    inputs = np.array([[1, 2, 3], [0, 0, 1]], np.float32)
    assert_allclose(model.scores(inputs), 2 * inputs)
    assert model.scores(inputs).dtype == np.float32


def test_probabilities_are_calibrated_with_its_own_temperature(tmp_path: Path) -> None:
    inputs = np.array([[2, 0, 0]], np.float32)
    cold = load(tmp_path, diagonal_onnx(1.0), temperature=1.0).probabilities(inputs)
    warm = load(tmp_path, diagonal_onnx(1.0), temperature=2.0).probabilities(inputs)
    assert_allclose(cold[0, 0], np.e**2 / (np.e**2 + 2), rtol=1e-6)
    assert_allclose(warm[0, 0], np.e / (np.e + 2), rtol=1e-6)


def test_nan_scores_are_no_error_but_malformed(tmp_path: Path) -> None:
    model = load(tmp_path, nan_onnx())
    assert not well_formed(model.probabilities(np.ones((2, 3), np.float32))).any()


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
        load(tmp_path, data)


def test_a_missing_file_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="does not load"):
        Model.load(tmp_path / "nowhere.onnx", spec(), Inputs.plain(SHAPE))


def test_labels_that_are_not_as_many_as_the_outputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="do the labels fit the model"):
        load(tmp_path, echo_onnx(), labels=("a", "b"))


def test_another_input_shape_than_the_pipelines_is_refused_at_the_load(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="takes? samples of shape"):
        load(tmp_path, echo_onnx(4))


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


def test_latency_is_a_time(tmp_path: Path) -> None:
    latency_ms = load_echo(tmp_path).latency_ms(np.zeros((1, 3), np.float32), runs=3)
    assert np.isfinite(latency_ms)
    assert latency_ms > 0


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
