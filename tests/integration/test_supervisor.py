"""A supervisor and its workers as processes: started again, told to stop, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.hierarchy import ROOT, eventually

SUPERVISOR = """
import logging, random, sys
from pathlib import Path
from shared.workers import supervisor
from shared.workers.worker import Worker
logging.basicConfig(level="INFO", stream=sys.stderr)
count, known, folder, program = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
if "SIG_IGN" in program:
    supervisor.STOP_S = 0.5  # it will be reached
workers = [Worker(index, count) for index in range(known)]
command = [sys.executable, "-c", program, str(folder)]
left = (folder / "left").write_text
sys.exit(supervisor.Supervisor(command, workers, random.Random(1), lambda n: left(str(n))).run())
"""

WORKER = """
import os, signal, sys
from pathlib import Path
from shared.workers.lifeline import hold_lifeline
from shared.workers.worker import Worker
worker = Worker.parse(sys.argv[3])
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
hold_lifeline()
mark = Path(sys.argv[1]) / f"worker-{worker.index}"
mark.with_suffix(".new").write_text(str(os.getpid()))
mark.with_suffix(".new").replace(mark)
if worker.leaves:
    sys.exit(0)
while True:
    signal.pause()
"""

DEAF = "from shared.workers import lifeline\nlifeline.GRACE_S = 0.5" + WORKER.replace(
    "lambda number, frame: sys.exit(0)", "signal.SIG_IGN"
)
BROKEN = "import sys; sys.exit('the model cannot serve')"

Start = Callable[..., "Supervised"]


class Supervised:
    """A supervisor's process and what its workers leave in a folder."""

    def __init__(self, folder: Path, program: str, count: int, known: int) -> None:
        self.folder = folder
        self.log_path = folder / "log"
        arguments = [str(count), str(known), str(folder), program]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SUPERVISOR, *arguments],
                stdin=subprocess.DEVNULL,
                stderr=log,
                cwd=ROOT,
            )

    def pid(self, index: int, *, other_than: int = 0) -> int:
        """Waits until a worker runs; returns its process's number."""
        mark = self.folder / f"worker-{index}"

        def found() -> int | None:
            pid = int(mark.read_text()) if mark.exists() else 0
            return pid if pid != other_than else None

        return eventually(found, f"worker {index} runs; {self.log}")

    @property
    def log(self) -> str:
        """What the supervisor said."""
        return self.log_path.read_text()

    def end(self) -> None:
        """Ends every process that was started here."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for mark in self.folder.glob("worker-?"):
            with suppress(ProcessLookupError):
                os.kill(int(mark.read_text()), signal.SIGKILL)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; as an orphan it is nobody's zombie here."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    with suppress(OSError):
        return stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a supervisor of workers that run a program."""
    begun: list[Supervised] = []

    def begin(program: str = WORKER, count: int = 2, known: int = 2) -> Supervised:
        begun.append(Supervised(tmp_path, program, count, known))
        return begun[-1]

    yield begin
    for each in begun:
        each.end()


def test_every_worker_runs_as_a_process_of_its_own(start: Start) -> None:
    supervised = start(count=3, known=3)
    assert len({supervised.pid(index) for index in range(3)}) == 3


def test_a_worker_that_is_killed_is_started_again_and_the_others_run_on(start: Start) -> None:
    supervised = start()
    first, second = supervised.pid(0), supervised.pid(1)
    os.kill(second, signal.SIGKILL)
    assert supervised.pid(1, other_than=second)
    assert "worker 1 was ended by SIGKILL" in supervised.log
    assert supervised.pid(0) == first


def test_a_worker_that_somebody_stops_is_started_again(start: Start) -> None:
    supervised = start()
    second = supervised.pid(1)
    os.kill(second, signal.SIGTERM)
    assert supervised.pid(1, other_than=second)
    assert "worker 1 ended with exit code 0" in supervised.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
def test_a_supervisor_that_is_stopped_takes_its_workers_with_it(
    start: Start, number: signal.Signals
) -> None:
    supervised = start()
    pids = [supervised.pid(0), supervised.pid(1)]
    supervised.process.send_signal(number)
    assert supervised.process.wait() == 0
    assert all(is_gone(pid) for pid in pids)
    assert "is killed" not in supervised.log


def test_a_worker_that_does_not_stop_is_killed(start: Start) -> None:
    supervised = start(DEAF)
    pids = [supervised.pid(0), supervised.pid(1)]
    supervised.process.terminate()
    assert supervised.process.wait() == 0
    assert all(is_gone(pid) for pid in pids)
    assert "worker 0 does not stop; it is killed" in supervised.log


@pytest.mark.parametrize("program", [WORKER, DEAF], ids=["well-behaved", "deaf"])
def test_no_worker_outlives_a_supervisor_that_is_killed(start: Start, program: str) -> None:
    supervised = start(program)
    pids = [supervised.pid(0), supervised.pid(1)]
    supervised.process.kill()
    eventually(lambda: all(is_gone(pid) for pid in pids), "the workers have ended")


def test_a_node_whose_workers_cannot_start_ends_with_their_error(start: Start) -> None:
    supervised = start(BROKEN)
    assert supervised.process.wait() == 1
    assert "the model cannot serve" in supervised.log
    assert "started again" not in supervised.log


def test_a_worker_that_leaves_is_not_started_again_and_is_forgotten(start: Start) -> None:
    supervised = start(count=1, known=3)
    left = supervised.folder / "left"
    eventually(lambda: left.exists() and left.read_text() == "1", "the others have left")
    eventually(lambda: supervised.log.count("has left") == 2, "both have said so")
    assert not is_gone(supervised.pid(0))
