"""The torch trainer: the losses, what they teach, and that the file is the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import log_softmax, rel_entr, softmax

from cloud.training.config import ModelConfig, TrainingConfig
from cloud.training.contract import BASE, MODEL, Job, Samples, write_task
from cloud.training.export import to_onnx
from cloud.training.network import Kind
from cloud.training.trainers import train as run_trainer
from shared.inputs import Inputs as ModelInputs
from shared.model import Model
from shared.scores import Floats
from tests.builders import spec
from tests.training_data import (
    LABELS,
    blobs_of,
    job,
    labelled,
    logits_of,
    network_of,
    quiet,
    taught,
)

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

from cloud.training.deep.losses import cross_entropy, deferral, distillation  # noqa: E402
from cloud.training.deep.torch_trainer import train  # noqa: E402
from cloud.training.deep.trainable import Trainable  # noqa: E402

RNG = np.random.default_rng(1)
LOGITS = RNG.normal(0, 2, (50, 4)).astype(np.float32)
TEACHER = RNG.normal(0, 3, (50, 4)).astype(np.float32)
TARGETS = RNG.integers(0, 4, 50)


def tensor(array: Any) -> Any:
    return torch.from_numpy(array)


# The losses, by a second implementation


def entropy_with(targets: Any, logits: Any) -> Any:
    return -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(targets)), targets]


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_distillation_is_hintons(temperature: float, alpha: float) -> None:
    soft_teacher = softmax(TEACHER.astype(np.float64) / temperature, axis=1)
    soft_student = softmax(LOGITS.astype(np.float64) / temperature, axis=1)
    divergence = rel_entr(soft_teacher, soft_student).sum(axis=1)
    expected = alpha * temperature**2 * divergence + (1 - alpha) * entropy_with(TARGETS, LOGITS)
    found = distillation(tensor(LOGITS), tensor(TEACHER), tensor(TARGETS), temperature, alpha)
    assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_constant_in_the_teachers_logits_changes_nothing() -> None:
    one = distillation(tensor(LOGITS), tensor(TEACHER), tensor(TARGETS), 2.0, 0.7)
    other = distillation(tensor(LOGITS), tensor(TEACHER + 30), tensor(TARGETS), 2.0, 0.7)
    assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_deferral_loss_is_gatekeepers(alpha: float) -> None:
    p, uniform = softmax(LOGITS.astype(np.float64), axis=1), np.full(4, 0.25)
    is_right = LOGITS.argmax(axis=1) == TARGETS
    assert 0 < is_right.sum() < len(is_right)
    unsure = rel_entr(p, uniform).sum(axis=1)
    expected = np.where(is_right, alpha * entropy_with(TARGETS, LOGITS), (1 - alpha) * unsure)
    found = deferral(tensor(LOGITS), tensor(TARGETS), alpha)
    assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_cross_entropy_is_minus_the_log_of_the_targets_probability() -> None:
    found = cross_entropy(tensor(LOGITS), tensor(TARGETS))
    assert_allclose(found.numpy(), entropy_with(TARGETS, LOGITS), rtol=1e-5)


# The file is the network

SHAPES: dict[str, tuple[Kind, tuple[int, ...], tuple[int, int] | None]] = {
    "mlp": ("mlp", (6,), None),
    "cnn1d": ("cnn1d", (3, 9), None),
    "cnn2d": ("cnn2d", (3, 8, 12), None),
    "cnn2d-of-a-row": ("cnn2d", (64,), (8, 8)),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_onnx_runtime_answers_like_torch(shape: Any, tmp_path: Path) -> None:
    network = network_of(*shape)
    inputs = RNG.uniform(0, 16, (30, *network.shape)).astype(np.float32)
    with torch.no_grad():
        expected = Trainable(network).logits(torch.from_numpy(inputs)).numpy()
    path = tmp_path / "model.onnx"
    path.write_bytes(to_onnx(Trainable(network).network(), "m"))
    model = Model.load(path, spec(labels=LABELS, scores="logits"), ModelInputs.plain(network.shape))
    assert_allclose(model.scores(inputs), expected, atol=1e-5 * np.abs(expected).max())


# What is learned


def accuracy(network: Any, samples: Samples) -> float:
    answers = logits_of(network, samples.inputs).argmax(axis=1)
    return float((answers == samples.targets).mean())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_each_architecture_learns_labels(shape: Any) -> None:
    kind, size, image_shape = shape
    samples, held_out = (bands(count, size, seed) for count, seed in ((150, 1), (150, 2)))
    wanted = Job(
        pipeline="meter", tier="tier2", labels=LABELS, input_shape=size, input_maximum=16.0,
        image_shape=image_shape,
        model=ModelConfig(architecture=kind, channels=(4, 6), hidden=(16,), learning_rate=0.01),
    )  # fmt: skip
    made = train(wanted, samples, held_out, quiet)
    assert accuracy(made.network, held_out) > 0.9


def bands(count: int, shape: tuple[int, ...], seed: int) -> Samples:
    """Returns noise with a bright first, second or last third: any architecture can tell them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 3
    rows = rng.uniform(0, 6, (count, int(np.prod(shape))))
    for label, third in enumerate(np.array_split(np.arange(rows.shape[1]), 3)):
        rows[np.ix_(labels == label, third)] += 6
    return Samples.of(rows.reshape(count, *shape).astype(np.float32), labels, BASE)


def test_a_student_learns_from_the_teacher_alone() -> None:
    wanted = job("tier1", epochs=150, learning_rate=0.01, distillation={"alpha": 1.0})
    made = train(wanted, taught(120, 1), taught(60, 2), quiet)
    assert accuracy(made.network, taught(300, 3)) > 0.9


def test_the_label_of_a_person_outranks_the_teacher() -> None:
    samples = taught(120, 1)
    right = samples.targets
    assert samples.teacher is not None
    lying = replace(samples, teacher=np.roll(samples.teacher, 1, axis=1), labels=right)
    wanted = job("tier1", epochs=150, learning_rate=0.01, distillation={"alpha": 0.0})
    made = train(wanted, lying, taught(60, 2), quiet)
    assert accuracy(made.network, lying) > 0.9


@pytest.mark.parametrize("model", [{}, {"architecture": "cnn1d", "channels": (4,)}], ids=str)
def test_the_same_seed_trains_the_same_bytes(model: Any) -> None:
    def trained(seed: int) -> bytes:
        wanted = job("tier2", seed, epochs=3, augmented_copies=2, **model)
        return to_onnx(train(wanted, labelled(60, 4), labelled(30, 5), quiet).network, "m")

    assert trained(7) == trained(7) != trained(8)


def test_the_less_being_right_weighs_the_less_sure_is_the_model_of_what_it_gets_wrong() -> None:
    def clouds(count: int, seed: int) -> Samples:
        inputs, labels = blobs_of(count, np.random.default_rng(seed), spread=4.5)
        return Samples.of(inputs, labels, BASE)

    samples, held_out = clouds(600, 1), clouds(600, 2)
    certainty = []
    for alpha in (0.1, 0.3, 0.6):
        deferring = {"alpha": alpha, "epochs": 20}
        wanted = job("tier2", epochs=20, patience=0, learning_rate=0.005, deferral=deferring)
        p = softmax(logits_of(train(wanted, samples, held_out, quiet).network, held_out.inputs), 1)
        wrong = p.argmax(axis=1) != held_out.labels
        assert 0.1 < wrong.mean() < 0.3
        certainty.append(p.max(axis=1)[wrong].mean())
    assert certainty[0] + 0.05 < certainty[1] < certainty[2] - 0.02


# Pruning


def test_structured_pruning_makes_a_smaller_model_that_still_answers() -> None:
    whole = train(
        job("tier2", hidden=(64,), learning_rate=0.01), labelled(120, 1), labelled(60, 2), quiet
    )
    pruning = {"kind": "structured", "share": 0.75, "epochs": 20}
    small = train(
        job("tier2", hidden=(64,), learning_rate=0.01, pruning=pruning),
        labelled(120, 1), labelled(60, 2), quiet,
    )  # fmt: skip
    assert [len(each.bias) for each in small.network.layers] == [16, 3]
    assert len(to_onnx(small.network, "m")) < 0.5 * len(to_onnx(whole.network, "m"))
    assert accuracy(small.network, labelled(300, 3)) > 0.9
    assert "structured pruning" in small.notes


def test_what_unstructured_pruning_took_out_stays_out() -> None:
    pruning = {"kind": "unstructured", "share": 0.5, "epochs": 5}
    wanted = job("tier1", epochs=5, pruning=pruning, deferral={"epochs": 5})
    network = train(wanted, taught(120, 1), taught(60, 2), quiet).network
    for layer in network.layers:
        assert np.count_nonzero(layer.weight) <= layer.weight.size - int(0.5 * layer.weight.size)


# Progress and the folder


def test_the_passes_of_all_parts_are_counted_together() -> None:
    said: list[tuple[int, int]] = []

    def say(epoch: int, epochs: int, loss: float | None = None) -> None:
        assert loss is not None
        said.append((epoch, epochs))

    parts: dict[str, Any] = {"pruning": {"epochs": 3}, "deferral": {"epochs": 2}}
    made = train(job("tier1", epochs=4, patience=0, **parts), taught(60, 1), taught(30, 2), say)
    assert said == [(each, 9) for each in range(1, 10)]
    assert made.epochs == 9


def test_it_takes_a_trainers_folder_and_leaves_a_model_in_it(tmp_path: Path) -> None:
    write_task(tmp_path, job("tier1", epochs=2), taught(60, 1), taught(30, 2))
    settings = TrainingConfig(base=tmp_path, first_job=tmp_path, trainer="torch")
    run_trainer(tmp_path, settings, quiet)
    model = Model.load(
        tmp_path / MODEL, spec(labels=LABELS, scores="logits"), ModelInputs.plain((6,))
    )
    inputs: Floats = taught(5, 3).inputs
    assert np.isfinite(model.scores(inputs)).all()
