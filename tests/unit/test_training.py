"""What is trained is what is exported, quantized and judged."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cloud.certificate.calibration import calibrate
from cloud.certificate.promise import Promise
from cloud.judgement import judge
from cloud.optimize.calibration import STRIDE_ROWS
from cloud.optimize.quantize import quantize_int8
from cloud.releasing import compose
from cloud.training import making
from cloud.training.augmentation import Inputs, augment, noisy_copies, with_copies
from cloud.training.candidate import Candidate
from cloud.training.contract import Samples
from cloud.training.export import to_onnx
from cloud.training.network import Network
from cloud.training.order import ORDER, Order, Report, read_report
from cloud.training.run import FINGERPRINT, run
from cloud.training.sklearn_trainer import train
from shared.errors import ArtefactError, StorageError
from shared.inputs import Inputs as ModelInputs
from shared.model import Model
from shared.model_spec import Calibration
from shared.npz import read_npz
from shared.scores import Floats, ScoreKind, probabilities
from tests.builders import CERTIFICATE, spec
from tests.fakes import wait_until
from tests.training_data import (
    KIND,
    LABELS,
    SILENT,
    blobs_of,
    job,
    labelled,
    logits_of,
    network_of,
    order_in,
    quiet,
    write_base,
)

SCORES: ScoreKind = "logits"


@pytest.fixture(scope="module")
def mlp() -> Network:
    """A perceptron with random weights."""
    return network_of()


@pytest.fixture(scope="module")
def points() -> Floats:
    """Inputs within 0 to 16."""
    return blobs_of(300, np.random.default_rng(2))[0]


def load(folder: Path, data: bytes) -> Model:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return Model.load(path, spec(labels=LABELS, scores=SCORES), ModelInputs.plain((6,)))


def test_the_int8_model_loads_and_stays_near_the_fp32_one(
    mlp: Network, points: Floats, tmp_path: Path
) -> None:
    int8 = load(tmp_path, quantize_int8(to_onnx(mlp, "tiny"), points)).scores(points)
    exact = logits_of(mlp, points)
    assert np.abs(int8 - exact).max() < 0.1 * np.ptp(exact)
    assert (int8.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.9


def test_the_int8_answer_to_a_sample_does_not_depend_on_its_neighbours(
    mlp: Network, points: Floats, tmp_path: Path
) -> None:
    model = load(tmp_path, quantize_int8(to_onnx(mlp, "tiny"), points))
    together = model.scores(points)
    alone = np.concatenate([model.scores(point[None]) for point in points[:50]])
    assert_array_equal(together[:50], alone)


def test_the_int8_model_is_one_file_of_standard_operators(mlp: Network, points: Floats) -> None:
    model = onnx.load_model_from_string(quantize_int8(to_onnx(mlp, "tiny"), points))
    assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx"}
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    dtypes = {tensor.data_type for tensor in model.graph.initializer}
    assert onnx.TensorProto.INT8 in dtypes


def test_quantizing_the_same_model_twice_gives_the_same_bytes(mlp: Network, points: Floats) -> None:
    source = to_onnx(mlp, "tiny")
    assert quantize_int8(source, points) == quantize_int8(source, points)


def test_the_library_is_given_few_inputs_at_once_for_it_keeps_all_values_of_them(
    mlp: Network, points: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[int] = []
    run_session = ort.InferenceSession.run

    def noting(session: Any, names: Any, feed: dict[str, Floats], *others: Any) -> Any:
        fed.extend(map(len, feed.values()))
        return run_session(session, names, feed, *others)

    source = to_onnx(mlp, "tiny")
    monkeypatch.setattr(ort.InferenceSession, "run", noting)
    quantized = quantize_int8(source, points)
    assert max(fed) == STRIDE_ROWS
    assert sum(fed) == len(points)
    assert quantize_int8(source, points[::-1]) == quantized


def test_the_full_model_learns_and_the_small_one_mimics_it() -> None:
    taught, held_out = labelled(90, 3), labelled(300, 4)
    tuning = labelled(60, 5)
    full_job = job("tier2", epochs=12, augmented_copies=3, learning_rate=0.005)
    full = train(full_job, taught, tuning, quiet)
    answers = logits_of(full.network, held_out.inputs).argmax(axis=1)
    assert (answers == held_out.labels).mean() > 0.9

    def answered(samples: Samples) -> Samples:
        return replace(
            samples, teacher=probabilities(logits_of(full.network, samples.inputs), SCORES, 1.0)
        )

    small_job = job("tier1", hidden=(12,), epochs=300, learning_rate=0.01)
    small = train(small_job, answered(taught), answered(tuning), quiet)
    agreement = logits_of(small.network, held_out.inputs).argmax(axis=1) == answers
    assert agreement.mean() > 0.9
    assert small.network.weights < full.network.weights


def test_of_two_labels_both_get_a_logit() -> None:
    inputs, labels = blobs_of(90, np.random.default_rng(3))
    samples = replace(labelled(90, 3), inputs=inputs, labels=np.minimum(labels, 1))
    two = job("tier2", epochs=30, learning_rate=0.01).model_copy(update={"labels": ("a", "b")})
    logits = logits_of(train(two, samples, samples.taken(slice(0, 0)), quiet).network, inputs)
    assert logits.shape == (90, 2)
    assert (logits.argmax(axis=1) == samples.labels).mean() > 0.9


def test_the_same_seed_trains_the_same_bytes() -> None:
    def trained(seed: int) -> bytes:
        made = train(
            job("tier2", seed, epochs=2, augmented_copies=2),
            labelled(60, 4),
            labelled(30, 5),
            quiet,
        )
        return to_onnx(made.network, "m")

    assert trained(7) == trained(7) != trained(8)


def test_a_sample_of_no_weight_teaches_nothing() -> None:
    """Half of the samples say the wrong thing, and weigh nothing."""
    samples = labelled(180, 6)
    wrong = np.arange(180) % 2 == 0
    labels = np.where(wrong, (samples.labels + 1) % 3, samples.labels)
    weights = np.where(wrong, 0.0, 2.0).astype(np.float32)
    lied = replace(samples, labels=labels, weights=weights)
    made = train(job("tier2", learning_rate=0.01), lied, labelled(60, 7), quiet)
    answers = logits_of(made.network, samples.inputs).argmax(axis=1)
    assert (answers == samples.labels).mean() > 0.9


def test_the_training_stops_when_the_tuning_loss_falls_no_more_and_keeps_the_best() -> None:
    losses: list[float] = []

    def say(epoch: int, epochs: int, loss: float | None = None) -> None:
        assert epochs == 500
        losses.append(loss or 0.0)

    eager = job("tier2", epochs=500, patience=4, learning_rate=0.02, hidden=(64,))
    made = train(eager, labelled(30, 8), labelled(60, 9), say)
    assert len(losses) < 500
    assert made.epochs == len(losses) - 4
    assert made.loss == min(losses)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [(KIND, (6,)), (Inputs(16.0, (2, 3)), (6,)), (Inputs(16.0, (1, 3)), (2, 1, 3))],
    ids=["numbers", "images", "images-of-two-planes"],
)
def test_augmented_inputs_stay_in_range_and_differ(
    kind: Inputs, shape: tuple[int, ...], points: Floats
) -> None:
    points = points.reshape(-1, *shape)
    result = augment(points, kind, np.random.default_rng(5))
    assert result.shape == points.shape
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 16
    assert not np.array_equal(result, points)


def test_the_planes_of_an_image_are_shifted_alike() -> None:
    one = np.random.default_rng(1).uniform(4, 12, (20, 1, 8, 8)).astype(np.float32)
    both = augment(
        np.concatenate([one, one], axis=1), Inputs(16.0, (8, 8)), np.random.default_rng(2)
    )
    apart = np.abs(both[:, 0] - both[:, 1])
    assert apart.mean() < 0.5  # the noise is of each pixel's own


def test_noisy_copies_are_near_the_inputs(points: Floats) -> None:
    result = noisy_copies(points, 2, KIND, np.random.default_rng(6))
    assert result.shape == (2 * len(points), 6)
    assert 0 < np.abs(result - np.tile(points, (2, 1))).mean() < 1


def test_varied_copies_keep_label_and_weight_of_their_sample() -> None:
    samples = replace(labelled(30, 1), weights=np.arange(30, dtype=np.float32))
    result = with_copies(samples, 3, KIND, np.random.default_rng(1))
    assert with_copies(samples, 0, KIND, np.random.default_rng(1)) is samples
    copies = len(result.labels) // 30
    assert copies > 3  # the clean ones count for several
    assert_array_equal(result.labels, np.tile(samples.labels, copies))
    assert_array_equal(result.weights, np.tile(samples.weights, copies))


# The order


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small data set."""
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """The folder of an order that was run."""
    folder = tmp_path_factory.mktemp("job")
    order_in(folder, base)
    run(folder, SILENT)
    return folder


def test_a_candidate_is_certified_small_and_as_good_as_before_quantization(done: Path) -> None:
    report = read_report(done / "candidate")
    assert report is not None
    certificate = report.calibration.certificate
    assert certificate is not None
    assert certificate.bound <= certificate.alpha == 0.05
    assert certificate.labelled == certificate.n  # people have labelled all of the base set
    assert certificate.label_bound is not None
    assert report.tier2_calibration is not None
    assert report.int8_agreement > 0.9
    assert report.int8_agreement > report.fp32_agreement - 0.02
    assert report.int8_bytes == (done / "candidate" / "tier1.onnx").stat().st_size
    assert report.running_coverage is None
    assert set(report.trained) == {"tier1", "tier2"}
    assert report.trainer == "sklearn"
    assert report.trained["tier1"].epochs


def test_what_certifies_is_in_no_trainers_folder(done: Path, base: Path) -> None:
    frozen = Samples.read(done / "candidate" / "held_out" / "frozen.npz")
    assert len(frozen.labels) == 450  # three quarters of the calibration part
    seen: set[bytes] = set()
    for path in (done / "candidate" / "trainer").rglob("*.npz"):
        seen |= {row.tobytes() for row in Samples.read(path).inputs}
    assert {row.tobytes() for row in read_npz(base / "train.npz", "x")["x"]} <= seen
    assert not seen & {row.tobytes() for row in frozen.inputs}


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
    held_out = read_npz(base / "calibration.npz", "x", "y")
    inputs, people = held_out["x"], held_out["y"]
    labels = load(done, (candidate / "tier2.onnx").read_bytes()).scores(inputs).argmax(axis=1)
    found = {}
    for file in ("tier1.onnx", "tier1.fp32.onnx"):
        scores = load(done, (candidate / file).read_bytes()).scores(inputs)
        promise = Promise(0.05, 0.05, 0.2)
        found[file] = calibrate(scores, labels, len(inputs) // 4, promise, people)
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


class TrainsError(Exception):
    """Somebody trains."""


def no_training(*arguments: object) -> None:
    raise TrainsError


def test_the_same_order_again_gives_the_same_report_and_trains_nothing(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "train", no_training)
    assert run(done, SILENT) == read_report(done / "candidate")


Change = Callable[[Path, Path], object]


def rewritten(folder: Path, **changes: Any) -> None:
    """Changes the training section of an order."""
    order = msgspec.json.decode((folder / ORDER).read_bytes(), type=Order)
    changed = msgspec.structs.replace(order, training=order.training | changes)
    (folder / ORDER).write_bytes(msgspec.json.encode(changed))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda folder, base: rewritten(folder, seed=2), id="seed"),
        pytest.param(lambda folder, base: write_base(base, seed=8), id="data"),
        pytest.param(
            lambda folder, base: (folder / "candidate" / "report.json").write_bytes(b'{"finge'),
            id="report",
        ),
    ],
)
def test_another_order_other_data_or_a_broken_report_trains_anew(
    done: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    folder, data = tmp_path / "job", tmp_path / "base"
    shutil.copytree(base, data)
    shutil.copytree(done, folder)
    order_in(folder, data)
    change(folder, data)
    monkeypatch.setattr(making, "train", no_training)
    with pytest.raises(TrainsError):
        run(folder, SILENT)


def test_other_limits_make_no_other_candidate(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(done, tmp_path / "job")
    rewritten(tmp_path / "job", timeout_s=77.0, memory_bytes=2**31)
    monkeypatch.setattr(making, "train", no_training)
    assert run(tmp_path / "job", SILENT) == read_report(done / "candidate")


def test_a_killed_order_leaves_no_candidate_and_may_be_run_again(
    base: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    order_in(folder, base)
    arguments = map(str, (os.getpid(), 600, 2**32, folder))
    child = subprocess.Popen([sys.executable, "-m", "cloud.training.child", *arguments])
    try:
        wait_until((folder / "work" / FINGERPRINT).exists, "the training has begun")
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert read_report(folder / "candidate") is None
    assert not (folder / "candidate").exists()
    report = run(folder, SILENT)
    assert read_report(folder / "candidate") == report
    assert not (folder / "work").exists()


def test_work_on_another_order_is_not_taken_over(done: Path, tmp_path: Path, base: Path) -> None:
    folder = tmp_path / "job"
    shutil.copytree(done / "candidate", folder / "work")
    (folder / "work" / "report.json").unlink()
    (folder / "work" / "left-over").touch()
    order_in(folder, base, seed=5)
    run(folder, SILENT)
    assert not (folder / "candidate" / "left-over").exists()
    assert (folder / "candidate/tier2.onnx").read_bytes() != (
        done / "candidate/tier2.onnx"
    ).read_bytes()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"pipeline": "\xff"}'])
def test_an_order_that_cannot_be_read_is_an_error_of_storage(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / ORDER).write_bytes(content)
    with pytest.raises(StorageError, match="cannot read the job"):
        run(tmp_path, SILENT)


def test_an_order_without_its_data_is_an_error_of_storage(tmp_path: Path) -> None:
    order_in(tmp_path / "job", tmp_path / "nowhere")
    with pytest.raises(StorageError, match="nowhere"):
        run(tmp_path / "job", SILENT)


@pytest.mark.parametrize("count", [1, 3])
def test_too_little_to_test_a_model_on_is_refused_in_words(tmp_path: Path, count: int) -> None:
    """Of three samples none would tune, and no temperature would be a number."""
    base = write_base(tmp_path / "base", calibration=count)
    order_in(tmp_path / "job", base)
    with pytest.raises(ArtefactError, match=r"0 samples tune and .* Fix: .*calibration\.npz"):
        run(tmp_path / "job", SILENT)


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
        pytest.param(CERTIFIED, 0.8, True, id="accepts-as-much"),
        pytest.param(CERTIFIED, 0.9, False, id="accepts-less"),
        pytest.param(Calibration(1.0, 2.0), None, False, id="uncertified-first"),
        pytest.param(Calibration(1.0, 0.1), 0.1, False, id="uncertified"),
    ],
)
def test_a_candidate_is_released_if_certified_and_no_worse(
    calibration: Calibration, running: float | None, accepted: bool
) -> None:
    judgement = judge(report_with(calibration, running))
    assert judgement.accepted is accepted
    assert judgement.precisions == (("int8",) if accepted else ())
    assert judgement.reason.startswith("int8 ")


def test_where_the_certificate_is_void_the_coverage_of_what_runs_is_no_yardstick() -> None:
    """Under concept drift the old model stays as confident as it was, and is wrong."""
    report = report_with(CERTIFIED, 0.95)
    assert not judge(report).accepted
    judgement = judge(report, is_void=True)
    assert judgement.accepted
    assert "what runs accepts 95%, which counts for nothing: its certificate is void" in (
        judgement.reason
    )
    assert not judge(report_with(UNCERTIFIED, 0.95), is_void=True).accepted


UNCERTIFIED = Calibration(1.0, 2.0)
BETTER = Calibration(1.0, 0.7, replace(CERTIFICATE, coverage=0.9))


@pytest.mark.parametrize(
    ("int8", "fp32", "running", "released"),
    [
        pytest.param(CERTIFIED, BETTER, None, ("int8", "fp32"), id="both"),
        pytest.param(CERTIFIED, UNCERTIFIED, None, ("int8",), id="int8-alone-is-certified"),
        pytest.param(UNCERTIFIED, CERTIFIED, None, ("fp32",), id="fp32-alone-is-certified"),
        pytest.param(UNCERTIFIED, UNCERTIFIED, None, (), id="neither"),
        pytest.param(CERTIFIED, BETTER, 0.85, ("fp32",), id="int8-accepts-less-than-what-runs"),
        pytest.param(BETTER, CERTIFIED, 0.85, ("int8",), id="fp32-accepts-less-than-what-runs"),
    ],
)
def test_of_two_files_each_is_released_on_its_own_certificate(
    int8: Calibration, fp32: Calibration, running: float | None, released: tuple[str, ...]
) -> None:
    judgement = judge(report_with(int8, running, fp32), offers_fp32=True)
    assert judgement.precisions == released
    assert "int8 " in judgement.reason
    assert "; fp32 " in judgement.reason
