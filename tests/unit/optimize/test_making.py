"""Every candidate that can be made is made, and why another cannot is said."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import helper
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier

from bench.four_shapes import Trained
from cloud.optimize.calibration import STRIDE_ROWS, find_ranges
from cloud.optimize.case import write_rows
from cloud.optimize.graph import is_quantized
from cloud.optimize.making import Looked, Made, MakingJob, file_of, make_all
from cloud.optimize.preparation import opsets, prepare
from cloud.optimize.recipes import RECIPES, Recipe
from shared.errors import ArtefactError
from shared.inputs import Inputs, InputSpec
from shared.model_feed import Feed, Port
from shared.releases.structure import check_structure
from tests.onnx_models import DOUBLE, FLOAT, TEXT, cast_onnx, onnx_file
from tests.small_nets import answers_of, digits_cnn, digits_perceptron

STATIC, WEIGHTS = RECIPES[0], RECIPES[1]


def job(
    folder: Path, data: bytes, rows: Any, recipes: Sequence[Recipe] = RECIPES, **changes: Any
) -> MakingJob:
    """Returns the job that makes candidates of a model with one input."""
    path = folder / "model.onnx"
    path.write_bytes(data)
    rows = np.asarray(rows)
    spec = InputSpec(rows.shape[1:], None, "uint8" if rows.dtype == np.uint8 else "float32")
    whole: dict[str, Any] = {
        "model": path,
        "inputs": (spec,),
        "scores": None,
        "rows": write_rows(folder / "calibration.npy", rows),
        "recipes": tuple(recipes),
        "folder": folder,
        "seconds": 600.0,
    }
    return MakingJob(**(whole | changes))


class Candidate(NamedTuple):
    """What came of a recipe: its file, or why there is none."""

    path: Path | None
    reason: str


def made(asked: MakingJob) -> tuple[Looked, dict[str, Candidate]]:
    """Returns what a model was found to be, and what came of each recipe."""
    looked, *steps = make_all(asked)
    assert isinstance(looked, Looked)
    return looked, {
        step.name: Candidate(file_of(step.name, asked.folder) if step.made else None, step.reason)
        for step in steps
        if isinstance(step, Made) and step.done
    }


@pytest.fixture(scope="module")
def of_perceptron(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Candidate]:
    trained = digits_perceptron()
    return made(job(tmp_path_factory.mktemp("mlp"), trained.model, trained.calibration[:100]))[1]


@pytest.fixture(scope="module")
def of_cnn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Candidate]:
    trained = digits_cnn()
    return made(job(tmp_path_factory.mktemp("cnn"), trained.model, trained.calibration[:100]))[1]


def content(step: Candidate) -> bytes:
    assert step.path is not None, step.reason
    return step.path.read_bytes()


def accuracy(data: bytes, trained: Trained) -> float:
    return float((answers_of(data, trained.test).argmax(axis=1) == trained.labels).mean())


# What is made


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_candidate_of_a_convolutional_network_is_small_portable_and_nearly_as_right(
    recipe: Recipe, of_cnn: dict[str, Candidate]
) -> None:
    trained, data = digits_cnn(), content(of_cnn[recipe.name])
    structure = check_structure(data)
    assert structure.opsets[""] == 17
    onnx.checker.check_model(data, full_check=True)
    assert len(data) < 0.45 * len(trained.model)
    graph = onnx.load_model_from_string(data).graph
    assert is_quantized(graph) is (recipe.precision == "int8")
    assert accuracy(data, trained) > accuracy(trained.model, trained) - 0.03


def test_a_perceptron_has_no_float_head(of_perceptron: dict[str, Candidate]) -> None:
    refused = {name: step.reason for name, step in of_perceptron.items() if step.path is None}
    reason = "its first layer is no convolution, or the only layer"
    assert refused == {"static-u8s8-head": reason, "static-u8s8-channel-head": reason}


def floats_up_to_the_first_rounding(step: Candidate) -> list[str]:
    """Returns the operators that the input goes through before it is rounded."""
    found, value = list[str](), "x"
    for node in onnx.load_model_from_string(content(step)).graph.node:
        if value in node.input:
            found.append(node.op_type)
            (value,) = node.output
    return found[: found.index("QuantizeLinear")]


def test_a_float_head_is_a_convolution_that_reads_floats(of_cnn: dict[str, Candidate]) -> None:
    assert floats_up_to_the_first_rounding(of_cnn["static-u8s8"]) == []
    head = floats_up_to_the_first_rounding(of_cnn["static-u8s8-head"])
    assert head == ["Conv", "MaxPool", "Relu"]


def test_no_candidate_rounds_its_scores(of_cnn: dict[str, Candidate]) -> None:
    rows = digits_cnn().test
    for name in ("static-u8s8", "static-s8s8-channel", "static-u8s8-tail"):
        scores = answers_of(content(of_cnn[name]), rows)
        assert len(np.unique(scores)) > 256, name


def test_a_reduced_range_has_weights_of_seven_bits(of_perceptron: dict[str, Candidate]) -> None:
    for name, largest in (("static-u8s8", 127), ("static-u8s7", 64)):
        graph = onnx.load_model_from_string(content(of_perceptron[name])).graph
        arrays = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
        levels = [array for array in arrays if array.dtype == np.int8 and array.ndim == 2]
        assert max(int(np.abs(array).max()) for array in levels) == largest


def test_the_same_job_makes_the_same_files(of_cnn: dict[str, Candidate], tmp_path: Path) -> None:
    trained = digits_cnn()
    _, again = made(job(tmp_path, trained.model, trained.calibration[:100]))
    assert {name: content(step) for name, step in again.items()} == {
        name: content(step) for name, step in of_cnn.items()
    }


def test_metadata_such_as_labels_stays_and_nothing_is_added(tmp_path: Path) -> None:
    trained = digits_perceptron()
    model = onnx.load_model_from_string(trained.model)
    helper.set_model_props(model, {"labels": '["0", "1"]'})
    steps = made(job(tmp_path, model.SerializeToString(), trained.calibration, (STATIC, WEIGHTS)))[
        1
    ]
    for step in steps.values():
        found = onnx.load_model_from_string(content(step)).metadata_props
        assert {each.key: each.value for each in found} == {"labels": '["0", "1"]'}


# Preparation


def test_a_bias_that_is_added_becomes_part_of_its_layer(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).normal(0, 1, (64, 3)).astype(np.float32)
    data = onnx_file(
        [
            helper.make_node("MatMul", ["x", "w"], ["p"]),
            helper.make_node("Add", ["p", "b"], ["y"]),
        ],
        [("x", FLOAT, ["N", 64])],
        [("y", FLOAT, ["N", 3])],
        {"w": weights, "b": np.ones(3, np.float32)},
    )
    (tmp_path / "m.onnx").write_bytes(data)
    prepared = prepare(tmp_path / "m.onnx")
    assert [node.op_type for node in prepared.graph.node] == ["Gemm"]
    assert opsets(prepared)[""] == 17
    rows = np.random.default_rng(2).normal(0, 1, (9, 64)).astype(np.float32)
    np.testing.assert_allclose(
        answers_of(prepared.SerializeToString(), rows), answers_of(data, rows), atol=1e-5
    )


def test_ranges_from_strides_are_those_of_all_rows_at_once(tmp_path: Path) -> None:
    trained = digits_perceptron()
    path = tmp_path / "m.onnx"
    path.write_bytes(trained.model)
    onnx.save(prepare(path), path)
    rows = trained.calibration[: 5 * STRIDE_ROWS + 7]
    seen: list[int] = []

    class Counting(Feed):
        def __call__(self, rows: Any) -> Any:
            seen.append(len(rows))
            return super().__call__(rows)

    feed = Counting([Port("x", "tensor(float)", ("N", 64))], Inputs.plain((64,)))
    low, high = find_ranges(path, "minmax", feed, rows)["logits"].range_value
    assert seen == [STRIDE_ROWS] * 5 + [7]
    scores = answers_of(trained.model, rows)
    assert low.item() == pytest.approx(scores.min(), abs=1e-4)
    assert high.item() == pytest.approx(scores.max(), abs=1e-4)


def test_a_percentile_leaves_out_what_is_rare(tmp_path: Path) -> None:
    trained = digits_perceptron()
    path = tmp_path / "m.onnx"
    path.write_bytes(trained.model)
    onnx.save(prepare(path), path)
    rows = trained.calibration.copy()
    rows[0] *= 50
    feed = Feed([Port("x", "tensor(float)", ("N", 64))], Inputs.plain((64,)))
    whole = find_ranges(path, "minmax", feed, rows)["x"].range_value
    most = find_ranges(path, "percentile", feed, rows)["x"].range_value
    assert most[1].item() < whole[1].item()


# What a model may be


def iris(zipmap: bool) -> bytes:
    flowers, species = load_iris(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # skl2onnx uses old names of numpy's
        from skl2onnx import to_onnx

        network = MLPClassifier((24,), max_iter=200, random_state=1).fit(flowers, species)
        options = None if zipmap else {"zipmap": False}
        model = to_onnx(network, flowers[:1].astype(np.float32), options=options)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("zipmap", [True, False], ids=["maps", "arrays"])
def test_a_classifier_of_scikit_learn_is_made_smaller(zipmap: bool, tmp_path: Path) -> None:
    flowers = load_iris().data.astype(np.float32)
    looked, steps = made(job(tmp_path, iris(zipmap), flowers, (STATIC,)))
    assert looked == Looked(3, "probabilities")
    before, after = (
        answers_of(data, flowers) for data in (iris(zipmap), content(steps["static-u8s8"]))
    )
    assert (before == after).mean() > 0.95


def test_logits_and_probabilities_are_told_apart(tmp_path: Path) -> None:
    trained = digits_perceptron()
    assert made(job(tmp_path, trained.model, trained.calibration, ()))[0] == Looked(10, "logits")
    model = onnx.load_model_from_string(trained.model)
    model.graph.node[-1].output[0] = "sums"
    model.graph.node.append(helper.make_node("Softmax", ["sums"], ["logits"]))
    asked = job(tmp_path, model.SerializeToString(), trained.calibration, ())
    assert made(asked)[0] == Looked(10, "probabilities")
    stated = job(tmp_path, model.SerializeToString(), trained.calibration, (), scores="logits")
    assert made(stated)[0] == Looked(10, "logits")


def batches_of(size: int) -> bytes:
    """Returns the digits' perceptron as one that takes batches of one size only."""
    model = onnx.load_model_from_string(digits_perceptron().model)
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = size
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("size", [1, 16])
def test_a_model_of_a_fixed_batch_is_calibrated_in_its_batches(size: int, tmp_path: Path) -> None:
    rows = digits_perceptron().calibration[:37]
    looked, steps = made(job(tmp_path, batches_of(size), rows, (STATIC, WEIGHTS)))
    assert looked.labels == 10
    assert all(step.path for step in steps.values())


def test_bytes_are_calibrated_as_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    data = onnx_file(
        [
            helper.make_node("Cast", ["x"], ["f"], to=FLOAT),
            helper.make_node("MatMul", ["f", "w"], ["y"]),
        ],
        [("x", 2, ["N", 16])],
        [("y", FLOAT, ["N", 3])],
        {"w": rng.normal(0, 1, (16, 3)).astype(np.float32)},
    )
    rows = rng.integers(0, 255, (50, 16), dtype=np.uint8)
    assert made(job(tmp_path, data, rows, (STATIC,)))[1]["static-u8s8"].path


def test_what_the_library_cannot_quantize_is_a_reason_and_no_end(tmp_path: Path) -> None:
    """A float64 model has no float32 matrix, and the library has no ranges for its values."""
    model = onnx_file(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", DOUBLE, ["N", 64])],
        [("y", DOUBLE, ["N", 3])],
        {"w": np.random.default_rng(1).normal(0, 1, (64, 3))},
    )
    _, steps = made(job(tmp_path, model, np.ones((9, 64), np.float32), (WEIGHTS,)))
    assert steps["weights"].reason == "the model holds no matrix of float32"


def test_a_model_without_layers_has_nothing_to_quantize(tmp_path: Path) -> None:
    data = cast_onnx(FLOAT, ["N", 3])
    _, steps = made(job(tmp_path, data, np.ones((9, 3), np.float32), RECIPES))
    assert {step.path for step in steps.values()} == {None}
    assert steps["static-u8s8"].reason == "the model has no layer that multiplies with a matrix"


def test_when_the_time_is_up_no_recipe_is_begun(tmp_path: Path) -> None:
    trained = digits_perceptron()
    _, steps = made(job(tmp_path, trained.model, trained.calibration, seconds=-1.0))
    assert {step.reason for step in steps.values()} == {"not made: the time was up"}


@pytest.mark.parametrize(
    ("data", "rows", "reason"),
    [
        pytest.param(
            cast_onnx(FLOAT, [3]), np.ones((9, 3)), "has no dimension for the batch", id="no-batch"
        ),
        pytest.param(
            cast_onnx(FLOAT, ["N", 4]), np.ones((9, 3)), "does not take samples of shape",
            id="another-shape",
        ),
        pytest.param(
            cast_onnx(TEXT, ["N", 3]), np.ones((9, 3)), "none of .*float.*double", id="texts"
        ),
        pytest.param(
            onnx_file(
                [helper.make_node("Frob", ["x"], ["y"])],
                [("x", FLOAT, ["N", 3])], [("y", FLOAT, ["N", 3])],
            ),
            np.ones((9, 3)), "it does not load: .*Frob", id="an-operator-that-is-none",
        ),
        pytest.param(
            onnx_file(
                [helper.make_node("Shape", ["x"], ["y"])],
                [("x", FLOAT, ["N", 3])], [("y", 7, [2])],
            ),
            np.ones((9, 3)), "none of its outputs may hold the scores", id="no-scores",
        ),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_used_is_refused_in_words(
    data: bytes, rows: Any, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ArtefactError, match=reason):
        list(make_all(job(tmp_path, data, rows.astype(np.float32))))


def test_a_quantized_model_is_not_quantized_again(
    of_cnn: dict[str, Candidate], tmp_path: Path
) -> None:
    data = content(of_cnn["static-u8s8"])
    with pytest.raises(ArtefactError, match="it is quantized already"):
        list(make_all(job(tmp_path, data, digits_cnn().calibration)))
