"""What is trained is what is exported, quantized and judged."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from cloud import trainer
from cloud.candidate import Candidate
from cloud.certificate.calibration import calibrate
from cloud.certificate.promise import Promise
from cloud.course import judge
from cloud.export import to_onnx
from cloud.optimize.quantize import quantize_int8
from cloud.releasing import compose
from cloud.trainer import Job, Report, read_report, train
from cloud.training import Inputs, Mlp, augment, distill, noisy_copies, train_full
from shared.errors import StorageError
from shared.inputs import Inputs as ModelInputs
from shared.model import Model
from shared.model_spec import Calibration
from shared.npz import read_npz
from shared.scores import Floats, ScoreKind
from tests.builders import CERTIFICATE, spec
from tests.fakes import wait_until

KIND = Inputs(16.0, None)
LABELS = ("a", "b", "c")
SCORES: ScoreKind = "logits"


def blobs_of(
    count: int, rng: np.random.Generator, spread: float = 1.5
) -> tuple[Floats, NDArray[np.int64]]:
    """Returns three clouds of points in 6 dimensions, within 0 to 16."""
    labels = np.arange(count, dtype=np.int64) % 3
    centres = 4 + 6 * np.eye(3).repeat(2, axis=1)
    points = centres[labels] + rng.normal(0, spread, (count, 6))
    return np.clip(points, 0, 16).astype(np.float32), labels


@pytest.fixture(scope="module")
def mlp() -> Mlp:
    """A perceptron with random weights."""
    rng = np.random.default_rng(1)
    sizes = (6, 16, 8, 3)
    weights = tuple(
        rng.normal(0, 0.5, pair).astype(np.float32) for pair in itertools.pairwise(sizes)
    )
    return Mlp(weights, tuple(rng.normal(0, 0.5, n).astype(np.float32) for n in sizes[1:]), 1 / 16)


@pytest.fixture(scope="module")
def points() -> Floats:
    """Inputs within 0 to 16."""
    return blobs_of(300, np.random.default_rng(2))[0]


def load(folder: Path, data: bytes) -> Model:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return Model.load(path, spec(labels=LABELS, scores=SCORES), ModelInputs.plain((6,)))


def test_the_exported_graph_answers_like_the_perceptron(
    mlp: Mlp, points: Floats, tmp_path: Path
) -> None:
    model = load(tmp_path, to_onnx(mlp, "tiny"))
    assert_allclose(model.scores(points), mlp.logits(points), atol=1e-4)


def test_the_int8_model_loads_and_stays_near_the_fp32_one(
    mlp: Mlp, points: Floats, tmp_path: Path
) -> None:
    int8 = load(tmp_path, quantize_int8(to_onnx(mlp, "tiny"), points)).scores(points)
    exact = mlp.logits(points)
    assert np.abs(int8 - exact).max() < 0.1 * np.ptp(exact)
    assert (int8.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.9


def test_the_int8_answer_to_a_sample_does_not_depend_on_its_neighbours(
    mlp: Mlp, points: Floats, tmp_path: Path
) -> None:
    model = load(tmp_path, quantize_int8(to_onnx(mlp, "tiny"), points))
    together = model.scores(points)
    alone = np.concatenate([model.scores(point[None]) for point in points[:50]])
    assert_array_equal(together[:50], alone)


def test_the_int8_model_is_one_file_of_standard_operators(mlp: Mlp, points: Floats) -> None:
    model = onnx.load_model_from_string(quantize_int8(to_onnx(mlp, "tiny"), points))
    assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx"}
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    dtypes = {tensor.data_type for tensor in model.graph.initializer}
    assert onnx.TensorProto.INT8 in dtypes


def test_quantizing_the_same_model_twice_gives_the_same_bytes(mlp: Mlp, points: Floats) -> None:
    source = to_onnx(mlp, "tiny")
    assert quantize_int8(source, points) == quantize_int8(source, points)


def test_the_full_model_learns_and_the_small_one_mimics_it() -> None:
    rng = np.random.default_rng(3)
    inputs, labels = blobs_of(90, rng)
    held_out, truth = blobs_of(300, rng)
    full = train_full(inputs, labels, KIND, 1, copies=3, epochs=6)
    assert (full.logits(held_out).argmax(axis=1) == truth).mean() > 0.9
    small = distill(full.logits(inputs), inputs, KIND, 1, epochs=30)
    agreement = small.logits(held_out).argmax(axis=1) == full.logits(held_out).argmax(axis=1)
    assert agreement.mean() > 0.9
    assert small.weights[0].size < full.weights[0].size


def test_the_same_seed_trains_the_same_model() -> None:
    inputs, labels = blobs_of(60, np.random.default_rng(4))
    one, again = (train_full(inputs, labels, KIND, 7, copies=2, epochs=2) for _ in range(2))
    other = train_full(inputs, labels, KIND, 8, copies=2, epochs=2)
    assert all(np.array_equal(a, b) for a, b in zip(one.weights, again.weights, strict=True))
    assert not np.array_equal(one.weights[0], other.weights[0])


@pytest.mark.parametrize("kind", [KIND, Inputs(16.0, (2, 3))], ids=["numbers", "images"])
def test_augmented_inputs_stay_in_range_and_differ(kind: Inputs, points: Floats) -> None:
    result = augment(points, kind, np.random.default_rng(5))
    assert result.shape == points.shape
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 16
    assert not np.array_equal(result, points)


def test_noisy_copies_begin_with_the_inputs_themselves(points: Floats) -> None:
    result = noisy_copies(points, 2, KIND, np.random.default_rng(6))
    assert result.shape == (3 * len(points), 6)
    assert_array_equal(result[: len(points)], points)


# The job


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small data set."""
    folder = tmp_path_factory.mktemp("base")
    rng = np.random.default_rng(7)
    for name, count in (("train", 90), ("calibration", 600)):
        inputs, labels = blobs_of(count, rng)
        np.savez(folder / f"{name}.npz", x=inputs, y=labels)
    return folder


def job_in(folder: Path, base: Path) -> Job:
    job = Job(
        pipeline="meter",
        seed=1,
        labels=LABELS,
        input_maximum=16.0,
        image_shape=None,
        base=str(base),
        promise=Promise(0.05, 0.05, 0.2),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_bytes(msgspec.json.encode(job))
    return job


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """The folder of a job that was run."""
    folder = tmp_path_factory.mktemp("job")
    job_in(folder, base)
    train(folder)
    return folder


def test_a_candidate_is_certified_small_and_as_good_as_before_quantization(done: Path) -> None:
    report = read_report(done / "candidate")
    assert report is not None
    certificate = report.calibration.certificate
    assert certificate is not None
    assert certificate.bound <= certificate.alpha == 0.05
    assert report.tier2_calibration is not None
    assert report.int8_agreement > 0.9
    assert report.int8_agreement > report.fp32_agreement - 0.02
    assert report.int8_bytes == (done / "candidate" / "tier1.onnx").stat().st_size
    assert report.running_coverage is None


@pytest.mark.parametrize(
    ("file", "name"),
    [("tier1.onnx", "tier1"), ("tier1.fp32.onnx", "tier1_fp32"), ("tier2.onnx", "tier2")],
)
def test_a_candidates_golden_scores_are_its_models_own(done: Path, file: str, name: str) -> None:
    golden = read_npz(done / "candidate" / "golden.npz", "inputs", name)
    model = load(done, (done / "candidate" / file).read_bytes())
    assert_allclose(model.scores(golden["inputs"]), golden[name], atol=1e-5)


def test_what_each_file_promises_was_measured_on_that_file(done: Path, base: Path) -> None:
    candidate = done / "candidate"
    report = read_report(candidate)
    assert report is not None
    inputs = read_npz(base / "calibration.npz", "x")["x"]
    labels = load(done, (candidate / "tier2.onnx").read_bytes()).scores(inputs).argmax(axis=1)
    found = {}
    for file in ("tier1.onnx", "tier1.fp32.onnx"):
        scores = load(done, (candidate / file).read_bytes()).scores(inputs)
        found[file] = calibrate(scores, labels, len(inputs) // 4, Promise(0.05, 0.05, 0.2))
    assert report.calibration == found["tier1.onnx"]
    assert report.fp32_calibration == found["tier1.fp32.onnx"]
    assert report.fp32_calibration.certificate is not None
    assert report.calibration.temperature != report.fp32_calibration.temperature


def test_both_files_of_a_candidate_make_one_release(done: Path) -> None:
    report = read_report(done / "candidate")
    assert report is not None
    candidate = Candidate(done / "candidate", report, "meter", LABELS, ("int8", "fp32"))
    release = compose(candidate.tier1("meter-tier1", ()), 4096)
    assert release.problems() == []
    assert [each.artefact.precision for each in release.variants] == ["int8", "fp32"]
    assert [each.size for each in release.artefacts] == [report.int8_bytes, report.fp32_bytes]
    assert [each.calibration for each in release.variants] == [
        report.calibration,
        report.fp32_calibration,
    ]


def test_the_same_job_again_gives_the_same_report_and_trains_nothing(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_training(*arguments: object, **options: object) -> Mlp:
        raise AssertionError("it trains again")

    monkeypatch.setattr(trainer, "train_full", no_training)
    monkeypatch.setattr(trainer, "distill", no_training)
    assert train(done) == read_report(done / "candidate")


@pytest.mark.parametrize("change", ["seed", "data", "report"])
def test_another_job_other_data_or_a_broken_report_trains_anew(
    done: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    class TrainsError(Exception):
        pass

    def training(*arguments: object, **options: object) -> Mlp:
        raise TrainsError

    folder, data = tmp_path / "job", tmp_path / "base"
    shutil.copytree(done, folder)
    shutil.copytree(base, data)
    job = msgspec.json.decode((folder / "job.json").read_bytes(), type=Job)
    if change == "seed":
        (folder / "job.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(job, seed=2)))
    elif change == "data":
        inputs, labels = blobs_of(90, np.random.default_rng(8))
        other = msgspec.structs.replace(job, base=str(data))
        np.savez(data / "train.npz", x=inputs, y=labels)
        (folder / "job.json").write_bytes(msgspec.json.encode(other))
    else:
        (folder / "candidate" / "report.json").write_bytes(b'{"fingerprint": ')
    monkeypatch.setattr(trainer, "train_full", training)
    with pytest.raises(TrainsError):
        train(folder)


def test_a_killed_job_leaves_no_candidate_and_may_be_started_again(
    base: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    job_in(folder, base)
    child = subprocess.Popen([sys.executable, "-m", "cloud.trainer", str(folder)])
    try:
        wait_until((folder / "work").exists, "the training has begun")
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert read_report(folder / "candidate") is None
    assert not (folder / "candidate").exists()
    (folder / "work" / "left-over").write_bytes(b"")
    report = train(folder)
    assert read_report(folder / "candidate") == report
    assert not (folder / "candidate" / "left-over").exists()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"pipeline": "\xff"}'])
def test_a_job_that_cannot_be_read_is_an_error_of_storage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "job.json").write_bytes(content)
    with pytest.raises(StorageError, match="cannot read the job"):
        train(tmp_path)


def test_a_job_without_its_data_is_an_error_of_storage(tmp_path: Path) -> None:
    job_in(tmp_path / "job", tmp_path / "nowhere")
    with pytest.raises(StorageError):
        train(tmp_path / "job")


# Judging


def report_with(
    calibration: Calibration, running: float | None, fp32: Calibration | None = None
) -> Report:
    return Report(
        fingerprint="", calibration=calibration, fp32_calibration=fp32 or CERTIFIED,
        tier2_calibration=None, int8_bytes=1, fp32_bytes=1, int8_agreement=1.0,
        fp32_agreement=1.0, running_coverage=running, samples=1, seconds=0.0,
    )  # fmt: skip


CERTIFIED = Calibration(1.0, 0.8, CERTIFICATE)


@pytest.mark.parametrize(
    ("calibration", "running", "accepted"),
    [
        pytest.param(CERTIFIED, None, True, id="the-first"),
        pytest.param(CERTIFIED, 0.79, True, id="accepts-more"),
        pytest.param(CERTIFIED, 0.8, False, id="accepts-no-more"),
        pytest.param(CERTIFIED, 0.9, False, id="accepts-less"),
        pytest.param(Calibration(1.0, 2.0), None, False, id="uncertified-first"),
        pytest.param(Calibration(1.0, 0.1), 0.1, False, id="uncertified"),
    ],
)
def test_a_candidate_is_released_if_certified_and_better(
    calibration: Calibration, running: float | None, accepted: bool
) -> None:
    judgement = judge(report_with(calibration, running))
    assert judgement.accepted is accepted
    assert judgement.precisions == (("int8",) if accepted else ())
    assert judgement.reason.startswith("int8 ")


UNCERTIFIED = Calibration(1.0, 2.0)
BETTER = Calibration(1.0, 0.7, replace(CERTIFICATE, coverage=0.9))


@pytest.mark.parametrize(
    ("int8", "fp32", "running", "released"),
    [
        pytest.param(CERTIFIED, BETTER, None, ("int8", "fp32"), id="both"),
        pytest.param(CERTIFIED, UNCERTIFIED, None, ("int8",), id="int8-alone-is-certified"),
        pytest.param(UNCERTIFIED, CERTIFIED, None, ("fp32",), id="fp32-alone-is-certified"),
        pytest.param(UNCERTIFIED, UNCERTIFIED, None, (), id="neither"),
        pytest.param(CERTIFIED, BETTER, 0.85, ("fp32",), id="int8-accepts-no-more-than-what-runs"),
        pytest.param(BETTER, CERTIFIED, 0.85, ("int8",), id="fp32-accepts-no-more-than-what-runs"),
    ],
)
def test_of_two_files_each_is_released_on_its_own_certificate(
    int8: Calibration, fp32: Calibration, running: float | None, released: tuple[str, ...]
) -> None:
    judgement = judge(report_with(int8, running, fp32), offers_fp32=True)
    assert judgement.precisions == released
    assert "int8 " in judgement.reason
    assert "; fp32 " in judgement.reason
