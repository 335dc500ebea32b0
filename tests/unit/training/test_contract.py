"""A trainer's folder holds what was put in it, or it is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cloud.training.contract import (
    JOB,
    MAX_REPORT_BYTES,
    REPORT,
    TRAIN,
    TUNING,
    Samples,
    TrainerReport,
    read_job,
    read_trainer_report,
    write_result,
    write_task,
)
from shared.errors import StorageError
from tests.training_data import job, labelled, taught


@pytest.mark.parametrize("samples", [taught(9, 1), labelled(9, 1)], ids=["teacher", "labels"])
def test_a_folder_gives_back_job_and_samples(tmp_path: Path, samples: Samples) -> None:
    wanted = job("tier1", pruning={"share": 0.3}, deferral={"alpha": 0.2})
    write_task(tmp_path, wanted, samples, samples.taken(slice(0, 4)))
    assert read_job(tmp_path) == wanted
    back, tuning = Samples.read(tmp_path / TRAIN), Samples.read(tmp_path / TUNING)
    for name in ("inputs", "labels", "weights", "origin", "teacher"):
        assert_array_equal(getattr(back, name), getattr(samples, name))
    assert len(tuning.labels) == 4
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Invalid JSON"),
        ("{}", "pipeline: Field required"),
        ('{"schema_version": 2}', "schema_version"),
    ],
    ids=["empty", "nothing-in-it", "newer"],
)
def test_a_job_that_cannot_be_read_says_what_is_wrong(
    tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / JOB).write_text(text)
    with pytest.raises(StorageError, match=reason):
        read_job(tmp_path)


def test_a_folder_without_a_job_is_an_error_of_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"job\.json"):
        read_job(tmp_path)


@pytest.mark.parametrize("broken", ["missing", "unequal", "objects"])
def test_a_data_set_that_is_none_is_refused(tmp_path: Path, broken: str) -> None:
    samples = labelled(9, 1)
    arrays: dict[str, Any] = {
        "x": samples.inputs, "y": samples.labels, "weight": samples.weights,
        "origin": samples.origin,
    }  # fmt: skip
    if broken == "missing":
        del arrays["weight"]
    elif broken == "unequal":
        arrays["y"] = arrays["y"][:4]
    else:
        arrays["x"] = np.array([object()] * 9)
    np.savez(tmp_path / "train.npz", **arrays)
    with pytest.raises(StorageError, match=r"train\.npz"):
        Samples.read(tmp_path / "train.npz")


def test_logits_are_asked_only_of_a_teacher() -> None:
    with pytest.raises(StorageError, match="no array `teacher`"):
        labelled(3, 1).logits(1.0)


def test_the_teachers_logits_give_its_probabilities_back() -> None:
    samples = taught(9, 1)
    assert samples.teacher is not None
    for temperature in (1.0, 2.5):
        logits = samples.logits(temperature) / temperature
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(p, samples.teacher, rtol=1e-4)


# What the trainer says


def test_a_report_comes_back(tmp_path: Path) -> None:
    report = TrainerReport(epochs=3, loss=0.5, seconds=1.5, weights=12, notes="fine")
    write_result(tmp_path, b"model", report)
    assert read_trainer_report(tmp_path / REPORT) == report


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"epochs": "many"}', json.dumps({"notes": "x" * MAX_REPORT_BYTES}), "\xff"],
    ids=["empty", "a-list", "no-number", "too-long", "no-text"],
)
def test_a_report_that_cannot_be_used_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / REPORT).write_bytes(text.encode("latin-1"))
    assert read_trainer_report(tmp_path / REPORT) == TrainerReport()


def test_a_report_is_not_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"notes": "of another"}')
    (tmp_path / REPORT).symlink_to(tmp_path / "secret.json")
    assert read_trainer_report(tmp_path / REPORT) == TrainerReport()


def test_what_it_says_beside_the_known_fields_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / REPORT).write_text('{"epochs": 4, "learning_curve": [3, 2, 1]}')
    assert read_trainer_report(tmp_path / REPORT) == TrainerReport(epochs=4)
