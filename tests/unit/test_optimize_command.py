"""``escalon optimize`` on files that people have."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from escalon.cli import main
from escalon.optimize.data import DataError, read_samples
from escalon.optimize.progress import Progress
from shared.errors import StorageError
from tests.builders import diagonal_onnx
from tests.hostile_models import adding, external_tensor
from tests.small_nets import answers_of, digits_perceptron


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and samples of it."""
    trained = digits_perceptron()
    (tmp_path / "model.onnx").write_bytes(trained.model)
    np.savez(tmp_path / "samples.npz", x=trained.test[:300], y=trained.labels[:300])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*options: str) -> int:
    return main(["optimize", "model.onnx", "--data", "samples.npz", *options])


def test_a_model_is_kept_and_report_and_plot_lie_beside_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("--out", "small", "--json", "--plot")
    told = capsys.readouterr()
    printed = json.loads(told.out)
    assert printed == json.loads((folder / "small" / "report.json").read_bytes())
    assert code == (3 if printed["kept"] == "fp32" else 0)
    assert printed["labelled"] == 150
    assert (folder / "small" / "plot.svg").read_bytes().startswith(b"<?xml")
    rows = digits_perceptron().test
    answers_of((folder / "small" / "model.onnx").read_bytes(), rows)
    assert "making weights (2 of 17)\n" in told.err


def test_where_fp32_is_kept_the_exit_code_is_another_and_without_a_folder_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that is nothing but a diagonal has nothing to gain."""
    (folder / "model.onnx").write_bytes(diagonal_onnx(1.0))
    np.savez(folder / "samples.npz", x=np.random.default_rng(1).normal(size=(40, 3)))
    assert run() == 3
    assert "fp32 is kept" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "samples.npz"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--plot"], "--plot needs a folder. Fix: add --out FOLDER"),
        (["--max-loss", "much"], "much is not a number"),
        (["--seconds", "0"], "0 is not above 0"),
    ],
    ids=["plot-without-a-folder", "loss", "seconds"],
)
def test_a_wrong_command_line_is_said_and_has_exit_code_2(
    options: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = run(*options)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert said in capsys.readouterr().err


def external() -> bytes:
    return bytes(adding(external_tensor()).SerializeToString())


def quantized() -> bytes:
    model = onnx.load_model_from_string(diagonal_onnx(1.0))
    model.graph.node[0].op_type = "MatMulInteger"
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"nothing", "model.onnx: not an ONNX file", id="no-model"),
        pytest.param(
            external(), "model.onnx: a tensor's numbers lie in another file", id="external"
        ),
        pytest.param(diagonal_onnx(1.0), "does not take samples of shape", id="other-inputs"),
        pytest.param(quantized(), "model.onnx: it does not load", id="unsound"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_model_that_is_refused_is_one_line_without_a_traceback(
    data: bytes, said: str, as_json: bool, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "model.onnx").write_bytes(data)
    assert run("--out", "small", *(["--json"] if as_json else [])) == 1
    told = capsys.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert not (folder / "small").exists()
    if as_json:
        assert said in json.loads(told.out)["error"]


def test_a_file_that_is_not_there_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", "nothing.onnx", "--data", "samples.npz"]) == 1
    assert "cannot read nothing.onnx: No such file" in capsys.readouterr().err


def test_without_the_clouds_extra_the_error_names_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run() == 1
    assert "pip install 'escalon[cloud]'" in capsys.readouterr().err


# Samples


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "samples.npz"
    np.savez(path, **arrays)
    return path


def test_one_half_calibrates_and_the_other_tests_with_its_labels(tmp_path: Path) -> None:
    rows = np.arange(40, dtype=np.float32).reshape(20, 2)
    path = saved(tmp_path, x=rows, y=np.arange(20))
    samples, inputs = read_samples(path, 3)
    assert inputs.shape == (2,)
    assert samples.labels is not None
    assert len(samples.calibration) == len(samples.test) == 10
    np.testing.assert_array_equal(samples.test, rows[samples.labels])
    every = {*samples.labels, *(samples.calibration[:, 0].astype(int) // 2)}
    assert every == set(range(20))
    again, _ = read_samples(path, 3)
    np.testing.assert_array_equal(again.test, samples.test)


def test_bytes_stay_bytes_and_other_numbers_become_float32(tmp_path: Path) -> None:
    images = np.zeros((20, 3, 8, 8), np.uint8)
    samples, inputs = read_samples(saved(tmp_path, image=images), 0)
    assert (inputs.shape, inputs.names) == ((3, 8, 8), (None,))
    assert inputs.dtype == np.uint8
    assert samples.test.dtype == np.uint8
    doubles, inputs = read_samples(saved(tmp_path, x=np.zeros((20, 4))), 0)
    assert doubles.test.dtype == inputs.dtype == np.float32


def test_several_inputs_go_by_their_names_into_one_row(tmp_path: Path) -> None:
    window, speed = np.ones((20, 3, 4), np.float32), np.full((20, 1), 7, np.uint8)
    samples, inputs = read_samples(saved(tmp_path, window=window, speed=speed), 0)
    assert inputs.names == ("window", "speed")
    assert samples.test.shape == (10, 13)
    np.testing.assert_array_equal(samples.test[0], [1] * 12 + [7])
    np.testing.assert_array_equal(inputs.parts(samples.test)[1], np.full((10, 1), 7))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        pytest.param({"y": np.arange(9)}, "it has no samples", id="labels-alone"),
        pytest.param({"x": np.ones((9, 2)), "z": np.ones((8, 2))}, "different numbers", id="rows"),
        pytest.param({"x": np.ones((7, 2))}, "7 samples are too few, 8 are the least", id="few"),
        pytest.param({"x": np.ones(9)}, r"`x` is float64 of shape \[9\]", id="flat"),
        pytest.param({"x": np.float32(1)}, "0 samples are too few", id="a-number"),
        pytest.param({"x": np.full((9, 2), "text")}, "`x` is <U4", id="texts"),
        pytest.param({"x": np.ones((9, 2)), "y": np.ones(8)}, "9 whole numbers", id="labels"),
        pytest.param({"x": np.ones((9, 2)), "y": np.full(9, 0.5)}, "whole numbers", id="halves"),
    ],
)
def test_what_are_no_samples_is_refused_in_words(
    arrays: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=reason):
        read_samples(saved(tmp_path, **arrays), 0)


@pytest.mark.parametrize("content", [b"", b"no zip at all"], ids=["empty", "other"])
def test_a_damaged_file_is_refused_in_words(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="no npz with arrays of numbers"):
        read_samples(path, 0)


# Progress


class Screen:
    """A stream that is a screen, or not."""

    def __init__(self, screen: bool) -> None:
        self.screen, self.text = screen, ""

    def isatty(self) -> bool:
        return self.screen

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def test_on_a_screen_a_line_takes_the_place_of_the_last_and_goes_in_the_end() -> None:
    screen = Screen(True)
    with Progress(screen) as progress:
        progress.say("one")
        progress.say("two")
    assert screen.text == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"


def test_elsewhere_every_line_stays() -> None:
    stream = Screen(False)
    with Progress(stream) as progress:
        progress.say("one")
        progress.say("two")
    assert stream.text == "one\ntwo\n"


def test_a_plot_without_its_extra_is_said_before_the_work(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("--out", "small", "--plot") == 1
    told = capsys.readouterr().err
    assert "pip install 'escalon[plots]'" in told
    assert "making" not in told
