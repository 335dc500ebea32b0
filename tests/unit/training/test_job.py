"""A training is a process that is watched, held to its limits, and ended with all it started."""

from __future__ import annotations

import errno
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud.training import job as module
from cloud.training.command_trainer import variables
from cloud.training.job import (
    LATE_S,
    LOG,
    MAX_LOG_BYTES,
    MAX_REASON_CHARACTERS,
    PROGRESS,
    TrainingJob,
)
from cloud.training.order import Report
from cloud.training.progress import Progress
from cloud.training.trainers import require
from shared.errors import ArtefactError, ConfigError, StorageError
from tests.fakes import wait_until
from tests.training_data import order_in, write_base

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's process groups")

TRAINER = Path(__file__).parents[2] / "trainer_program.py"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def made(folder: Path, base: Path, **training: Any) -> TrainingJob:
    return TrainingJob(folder, order_in(folder, base, **training))


def program(folder: Path, base: Path, *does: str, **training: Any) -> TrainingJob:
    """Returns a job whose trainer is a program that does something."""
    command = [sys.executable, str(TRAINER), "{folder}", *does]
    return made(folder, base, trainer="command", command=command, **training)


def ended(training: TrainingJob, now_s: float = 0.0) -> Report | str:
    """Returns the report, or why the training failed."""
    found: list[Report | str] = []

    def ends() -> bool:
        try:
            report = training.poll(now_s)
        except ArtefactError as error:
            found.append(str(error))
        else:
            found.extend([report] if report else [])
        return bool(found)

    wait_until(ends, "the training has ended")
    return found[0]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


# A built-in trainer


def test_a_training_ends_with_its_report_and_says_how_far_it_is(tmp_path: Path, base: Path) -> None:
    training = made(tmp_path / "job", base)
    training.start(0.0)
    seen: list[Progress] = []

    def ends() -> bool:
        report = training.poll(0.0)
        if report is None and training.progress not in seen:
            seen.append(training.progress)
        return report is not None

    wait_until(ends, "the training has ended")
    stages = [each.stage for each in seen if each.stage]
    assert stages == sorted(stages, key=["tier2", "tier1", "testing"].index)
    assert training.progress.stage == "testing"
    kept = msgspec.json.decode((tmp_path / "job" / PROGRESS).read_bytes(), type=Progress)
    assert kept == training.progress


def test_a_training_that_fails_says_why(tmp_path: Path) -> None:
    training = made(tmp_path / "job", tmp_path / "nowhere")
    training.start(0.0)
    said = ended(training)
    assert isinstance(said, str)
    assert said.startswith("training failed: cannot read the job in ")
    assert said.removeprefix("training failed: ") in (tmp_path / "job" / LOG).read_text()


def test_a_machine_that_starts_no_other_child_is_an_error_of_storage(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", refused)
    with pytest.raises(StorageError, match=r"cannot start the trainer in .*job: Resource temp"):
        made(tmp_path / "job", base).start(0.0)


def test_a_log_that_cannot_be_kept_hides_no_failure(tmp_path: Path) -> None:
    training = made(tmp_path / "job", tmp_path / "nowhere")
    (tmp_path / "job" / LOG).mkdir()
    training.start(0.0)
    assert "nowhere" in str(ended(training))


def test_more_memory_than_allowed_ends_the_training_with_what_to_do(
    tmp_path: Path, base: Path
) -> None:
    greedy = {"augmented_copies": 1000}
    many = write_base(tmp_path / "many", train=30_000, calibration=300)
    training = made(tmp_path / "job", many, tier2=greedy, memory_bytes=2**29)
    training.start(0.0)
    assert "training.memory_bytes. Fix: raise that" in str(ended(training))
    assert not training.candidate.exists()


def test_the_torch_trainer_without_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'escalon\[torch\]'"):
        require("torch")
    require("sklearn")


def test_a_training_whose_trainer_is_not_there_does_not_even_start(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    training = made(tmp_path / "job", base, trainer="torch")
    with pytest.raises(ConfigError, match="torch"):
        training.start(0.0)


# A program


def test_a_program_trains_and_its_models_are_tested_like_any(tmp_path: Path, base: Path) -> None:
    training = program(tmp_path / "job", base)
    training.start(0.0)
    report = ended(training)
    assert isinstance(report, Report)
    assert report.trainer == "command"
    assert report.trained["tier1"].notes == "by a program"
    assert report.calibration.certificate is not None


def test_a_programs_progress_is_that_of_the_training(tmp_path: Path, base: Path) -> None:
    training = program(tmp_path / "job", base, "--say", '{"epoch": 12, "epochs": 50}', "--wait")
    training.start(0.0)
    wait_until(lambda: training.poll(0.0) is None and training.progress.epoch == 12, "progress")
    assert str(training.progress) == "tier2, epoch 12/50"
    training.stop()


def test_a_program_gets_nothing_of_the_clouds_environment(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESCALON_SECRET", "hunter2")
    training = program(tmp_path / "job", base, "--fail-with-environment", environment={"GPU": "0"})
    training.start(0.0)
    said = str(ended(training))
    assert "GPU=0" in said
    assert "ESCALON_JOB=" in said
    assert "hunter2" not in said
    assert "PYTHONPATH" not in said


def test_a_programs_variables_are_few() -> None:
    inherited = {"PATH": "/bin", "HOME": "/root", "AWS_SECRET": "x", "LANG": "C", "TMPDIR": "/t"}
    assert variables(Path("/job"), {"PATH": "/opt", "A": "b"}, inherited) == {
        "PATH": "/opt", "HOME": "/root", "LANG": "C", "TMPDIR": "/t", "A": "b",
        "ESCALON_JOB": "/job",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (("--code", "7"), "ended with code 7"),
        (("--kill", str(int(signal.SIGSEGV))), f"ended by signal {int(signal.SIGSEGV)}"),
        (("--no-model",), r"left no model.onnx"),
        (("--nan",), "no numbers: look at its weights"),
    ],
    ids=["code", "crash", "no-model", "nan-weights"],
)
def test_a_program_that_fails_leaves_no_candidate(
    tmp_path: Path, base: Path, does: tuple[str, ...], reason: str
) -> None:
    training = program(tmp_path / "job", base, *does)
    training.start(0.0)
    assert reason in str(ended(training))
    assert not training.candidate.exists()


def test_a_program_that_is_not_there_is_named(tmp_path: Path, base: Path) -> None:
    training = made(tmp_path / "job", base, trainer="command", command=["/no/such", "{folder}"])
    training.start(0.0)
    assert "cannot start the trainer /no/such: No such file" in str(ended(training))


def test_a_program_that_prints_without_end_fills_neither_memory_nor_disk(
    tmp_path: Path, base: Path
) -> None:
    training = program(tmp_path / "job", base, "--flood", str(40 * 2**20), "--code", "1")
    training.start(0.0)
    said = str(ended(training))
    assert len(said) < MAX_REASON_CHARACTERS + 100
    files = {path: path.stat().st_size for path in (tmp_path / "job").rglob("*") if path.is_file()}
    assert files[tmp_path / "job" / LOG] <= MAX_LOG_BYTES
    assert sum(files.values()) < 2**20


def test_a_programs_memory_is_limited_too(tmp_path: Path, base: Path) -> None:
    training = program(tmp_path / "job", base, "--allocate", str(2**31), memory_bytes=2**29)
    training.start(0.0)
    assert "MemoryError" in str(ended(training))


# Ending it


def pids_of(training: TrainingJob, pids: Path) -> list[int]:
    """Waits until the program has said who it is: its parent, itself, and its own child."""
    wait_until(lambda: training.poll(0.0) is None and pids.exists(), "the program says who it is")
    return [int(each) for each in pids.read_text().split()]


def test_a_training_whose_time_is_up_is_ended(tmp_path: Path, base: Path) -> None:
    training = program(tmp_path / "job", base, "--wait", timeout_s=1.0)
    training.start(0.0)
    assert "it took more than the 1 s of training.timeout_s" in str(ended(training))


@LINUX
def test_a_program_whose_time_is_up_is_ended_with_all_that_it_started(
    tmp_path: Path, base: Path
) -> None:
    training = program(tmp_path / "job", base, "--pids", str(tmp_path / "pids"), "--wait")
    training.start(0.0)
    child, *others = pids_of(training, tmp_path / "pids")
    os.kill(child, signal.SIGALRM)  # as its timer does
    assert "it took more than the 1800 s of training.timeout_s" in str(ended(training))
    wait_until(lambda: not any(map(is_alive, others)), "nothing is left")


@LINUX
def test_a_program_that_will_not_end_is_killed_with_its_children(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    training = program(tmp_path / "job", base, "--pids", str(pids), "--deaf", "--wait")
    training.start(0.0)
    found = pids_of(training, pids)
    monkeypatch.setattr(module, "KILL_S", 0.2)
    training.stop()
    wait_until(lambda: not any(map(is_alive, found)), "nothing is left")


@LINUX
def test_a_program_is_asked_to_end_and_may_tidy_up(tmp_path: Path, base: Path) -> None:
    training = program(
        tmp_path / "job", base, "--pids", str(tmp_path / "pids"), "--wait",
        "--tidy", str(tmp_path / "tidied"),
    )  # fmt: skip
    training.start(0.0)
    found = pids_of(training, tmp_path / "pids")
    training.stop()
    assert (tmp_path / "tidied").exists()
    wait_until(lambda: not any(map(is_alive, found)), "nothing is left")


def test_a_child_that_does_not_notice_its_time_is_up_is_ended(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = program(tmp_path / "job", base, "--wait", timeout_s=1000.0)
    training.start(0.0)
    wait_until(lambda: training.poll(0.0) is None and training.progress.stage == "tier2", "begins")
    assert "took more than the 1000 s" in str(ended(training, 1000.0 + LATE_S))


@LINUX
def test_a_deaf_child_whose_time_is_up_is_asked_and_killed_without_keeping_anybody_waiting(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    training = program(
        tmp_path / "job", base, "--pids", str(pids), "--deaf", "--wait", timeout_s=1000.0
    )
    training.start(0.0)
    found = pids_of(training, pids)
    late_s = 1000.0 + LATE_S
    with monkeypatch.context() as nobody_waits:
        nobody_waits.setattr("time.sleep", None)
        for after_s in (0.0, module.KILL_S - 0.1):
            assert training.poll(late_s + after_s) is None
            assert all(map(is_alive, found[1:]))
    assert "took more than the 1000 s" in str(ended(training, late_s + module.KILL_S))
    wait_until(lambda: not any(map(is_alive, found)), "nothing is left")


@LINUX
@pytest.mark.parametrize("does", [(), ("--deaf",)], ids=["hears", "deaf"])
def test_a_training_whose_cloud_was_killed_ends_too(
    tmp_path: Path, base: Path, does: tuple[str, ...]
) -> None:
    """Of a deaf program, the child that is as deaf: nobody else is left to kill it."""
    pids = tmp_path / "pids"
    order_in(
        tmp_path / "job", base, trainer="command",
        command=[sys.executable, str(TRAINER), "{folder}", "--pids", str(pids), "--wait", *does],
    )  # fmt: skip
    source = (
        "import sys, time, msgspec, pathlib\n"
        "from cloud.training.job import TrainingJob\n"
        "from cloud.training.order import Order\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "order = msgspec.json.decode((folder / 'order.json').read_bytes(), type=Order)\n"
        "training = TrainingJob(folder, order)\n"
        "training.start(time.monotonic())\n"
        "while True:\n"
        "    training.poll(time.monotonic())\n"
        "    time.sleep(0.02)\n"
    )
    cloud = subprocess.Popen([sys.executable, "-c", source, str(tmp_path / "job")])
    try:
        wait_until(pids.exists, "it trains")
    finally:
        cloud.send_signal(signal.SIGKILL)
        cloud.wait()
    found = list(map(int, pids.read_text().split()))
    wait_until(lambda: not any(map(is_alive, found)), "nothing is left")


def test_stopping_what_does_not_run_does_nothing(tmp_path: Path, base: Path) -> None:
    training = made(tmp_path / "job", base)
    training.stop()
    training.start(0.0)
    training.stop()
    training.stop()
    assert not training.candidate.exists()
