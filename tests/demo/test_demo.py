"""``escalon demo`` as a user runs it: a short run, Ctrl-C, and a node that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.hierarchy import ROOT, TIMEOUT_S, eventually, tail

PROC = Path("/proc")
RUN_TIMEOUT_S = 180.0  # the bound of a failure; a run takes less than a minute
NEEDS_PROC = pytest.mark.skipif(
    not (PROC / "self" / "environ").exists(), reason="looks for left-over processes in /proc"
)

PHASES = ["steady", "drift", "rollout", "after"]
PHASE_FIELDS = {
    "samples", "predictions", "lost", "duplicates", "accuracy", "tier1_accuracy", "tier2_accuracy",
    "escalation_rate", "p50_ms", "p99_ms", "bytes_sensor", "bytes_uplink",
}  # fmt: skip
TIER1_NODES = ["tier1-a", "tier1-b", "tier1-c"]
STATES = ["OFFERED", "FETCHING", "VERIFIED", "STAGED", "SMOKE", "ACTIVATING", "PROBATION"]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for one demo after another: the first trains the first models, and they stay."""
    return tmp_path_factory.mktemp("demo")


class Demo:
    """A running ``escalon demo``.

    Args:
        process: its process.
        workdir: its folder.
        output_path: what it prints.
    """

    def __init__(self, process: subprocess.Popen[bytes], workdir: Path, output_path: Path) -> None:
        self.process = process
        self._workdir = workdir
        self._output_path = output_path

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output_path.read_text(errors="replace")

    def wait(self, timeout_s: float = RUN_TIMEOUT_S) -> int:
        """Waits for its end; returns its exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the demo does not end:\n{tail(self.output)}") from None

    def wait_for_line(self, text: str) -> None:
        """Waits until it has printed a text."""

        def printed() -> bool:
            found = text in self.output
            assert found or self.process.poll() is None, f"it ended:\n{tail(self.output)}"
            return found

        eventually(printed, f"{text!r} in the demo's output", RUN_TIMEOUT_S)

    def children(self, argument: str = "") -> list[int]:
        """Returns the processes that work in the demo's folder, by a part of their command line."""
        mine = [pid for pid in process_ids() if belongs_to(pid, self._workdir)]
        return [
            pid
            for pid in mine
            if pid != self.process.pid and argument.encode() in read(PROC / str(pid) / "cmdline")
        ]


def process_ids() -> list[int]:
    """Returns all processes."""
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def belongs_to(pid: int, folder: Path) -> bool:
    """Whether a process has a folder in its environment or its command, or works in it."""
    mark, home = os.fsencode(folder), PROC / str(pid)
    if any(mark in read(home / name) for name in ("environ", "cmdline")):
        return True
    try:
        return str(folder) in str((home / "cwd").readlink())
    except OSError:
        return False


def read(path: Path) -> bytes:
    """Returns a file's bytes; none where its process is gone or somebody else's."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


@contextmanager
def demo(workdir: Path, *arguments: str) -> Iterator[Demo]:
    """Starts a demo; whatever of it is there at the end is killed."""
    output_path = workdir / "output.txt"
    command = [sys.executable, "-m", "escalon", "demo", "--plain", "--workdir", str(workdir)]
    with output_path.open("wb") as output:
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    running = Demo(process, workdir, output_path)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.terminate()  # so that it ends its children itself
            try:
                process.wait(RUN_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def test_short_run_on_the_embedded_broker_tells_the_whole_story(
    workdir: Path, tmp_path: Path
) -> None:
    report_path = tmp_path / "report.json"
    arguments = ["--broker", "amqtt", "--speed", "2", "--duration", "6"]
    with demo(workdir, *arguments, "--report", str(report_path)) as running:
        code = running.wait()
        output = running.output
    assert code == 0, tail(output)
    assert "Traceback" not in output
    assert "amqtt" in output
    positions = [output.index(f"== {phase}:") for phase in PHASES]
    assert positions == sorted(positions)

    report = json.loads(report_path.read_text())
    assert list(report["phases"]) == PHASES
    for phase in report["phases"].values():
        assert phase.keys() >= PHASE_FIELDS
        assert phase["samples"] > 0
        assert phase["lost"] == phase["duplicates"] == 0
        assert phase["predictions"] == phase["samples"]
        assert 0 <= phase["escalation_rate"] <= 1
    assert report["broker"].startswith("amqtt")
    assert report["seconds_total"] > 0
    release = report["release"]
    assert (release["old_version"], release["new_version"]) == ("1", "2")
    assert [node["node"] for node in release["nodes"]] == TIER1_NODES
    for node in release["nodes"]:
        assert node["state"] == "COMMITTED"
        assert [state["state"] for state in node["states"]] == STATES


@NEEDS_PROC
def test_ctrl_c_in_mid_run_ends_every_process_and_exits_cleanly(workdir: Path) -> None:
    with demo(workdir) as running:
        running.wait_for_line("== steady")
        running.wait_for_line("/s ")  # samples are answered
        children = running.children()
        assert len(children) >= 7  # broker, cloud, tier-2, three of tier-1, sensors
        running.process.send_signal(signal.SIGINT)
        assert running.wait() == 130
        assert running.children() == []
        assert "Traceback" not in running.output
        assert "stopped" in running.output


@NEEDS_PROC
def test_ctrl_c_while_the_first_models_are_trained_ends_every_process(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        eventually(lambda: running.children("cloud.training.child"), "the trainer", RUN_TIMEOUT_S)
        running.process.send_signal(signal.SIGINT)
        assert running.wait() == 130
        assert running.children() == []
        assert "Traceback" not in running.output


@NEEDS_PROC
def test_second_ctrl_c_leaves_no_process_behind(workdir: Path) -> None:
    with demo(workdir) as running:
        eventually(lambda: len(running.children()) >= 6, "all nodes", RUN_TIMEOUT_S)
        running.process.send_signal(signal.SIGINT)
        running.wait_for_line("stopped")
        running.process.send_signal(signal.SIGINT)
        assert running.wait() == 130
        assert running.children() == []


@NEEDS_PROC
@pytest.mark.parametrize(
    ("argument", "name"),
    [("tier2-a.yaml", "tier2-a"), ("mosquitto.conf", "Mosquitto")],
    ids=["tier2", "broker"],
)
def test_killed_process_ends_the_demo_which_names_it_with_the_end_of_its_log(
    workdir: Path, argument: str, name: str, request: pytest.FixtureRequest
) -> None:
    if argument == "mosquitto.conf":
        request.getfixturevalue("require_mosquitto")
    with demo(workdir) as running:
        running.wait_for_line("== steady")
        (victim,) = running.children(argument)
        os.kill(victim, signal.SIGKILL)
        assert running.wait(TIMEOUT_S) == 1
        assert running.children() == []
        output = running.output
    end = output[output.index("escalon: ") :]
    assert name in end
    assert "log" in end
    assert len(end.splitlines()) > 2
    assert "Traceback" not in output
