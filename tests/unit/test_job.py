"""A training that cannot be started or that fails is an error with its reason, never a crash."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from cloud.certificate.promise import Promise
from cloud.job import MAX_REASON_BYTES, TrainingJob
from cloud.trainer import Job
from shared.errors import ArtefactError, StorageError
from tests.builders import LABELS
from tests.fakes import wait_until


@pytest.fixture
def training(tmp_path: Path) -> TrainingJob:
    """A job whose data are not there."""
    job = Job(
        pipeline="meter", seed=1, labels=LABELS, input_maximum=1.0, image_shape=None,
        base=str(tmp_path / "nowhere"), promise=Promise(0.05, 0.05, 0.2),
    )  # fmt: skip
    return TrainingJob(tmp_path / "job", job)


def ended(training: TrainingJob) -> str:
    """Returns why a training failed."""
    said: list[str] = []

    def fails() -> bool:
        try:
            assert training.poll(0.0) is None
        except ArtefactError as error:
            said.append(str(error))
        return bool(said)

    wait_until(fails, "the training has failed")
    return said[0]


def test_a_training_that_fails_says_why(training: TrainingJob) -> None:
    training.start(0.0)
    assert "training failed with code 1: cannot read the job in" in ended(training)


def test_a_log_that_cannot_be_written_is_an_error_of_storage(training: TrainingJob) -> None:
    (training.folder / "trainer.log").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"cannot start the trainer in .*job: Is a directory"):
        training.start(0.0)


def test_a_machine_that_starts_no_other_child_is_an_error_of_storage(
    training: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", refused)
    with pytest.raises(StorageError, match=r"cannot start the trainer in .*job: Resource temp"):
        training.start(0.0)


def test_a_log_that_is_gone_hides_no_failure(training: TrainingJob) -> None:
    training.start(0.0)
    (training.folder / "trainer.log").unlink()
    assert "code 1: its log cannot be read: No such file" in ended(training)


def test_of_a_long_log_the_end_is_said(training: TrainingJob) -> None:
    training.start(0.0)
    with (training.folder / "trainer.log").open("ab") as log:
        log.write(b"x" * 10**6 + b" the end")
    said = ended(training)
    assert len(said) < MAX_REASON_BYTES + 100
