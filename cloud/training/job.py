"""A training as a child process: started, watched, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

import shared
from cloud.training.command_trainer import GRACE_S
from cloud.training.limits import Limits
from cloud.training.order import CANDIDATE, ORDER, Order, Report, read_report
from cloud.training.progress import Progress, Spoken
from cloud.training.trainers import require
from shared.durable import disk_trouble, write_durably
from shared.errors import ArtefactError
from shared.releases.confined_process import has_ended

MAX_REASON_CHARACTERS = 500
MAX_LOG_BYTES = 64 * 2**10
MAX_READ_BYTES = 2**20
KILL_S = GRACE_S + 2.0  # of which the program has the first part
LATE_S = 15.0  # the child is to notice first that its time is up
LOG, PROGRESS = "trainer.log", "progress.json"


class TrainingJob:
    """Runs an order in a process group of its own.

    Args:
        folder: the job's folder; the telemetry stands in it already.
        order: what to train.
    """

    def __init__(self, folder: Path, order: Order) -> None:
        self.folder = folder
        self.order = order
        settings = order.settings
        self._limits = Limits(settings.memory_bytes, settings.timeout_s)
        self._trainer = settings.trainer
        self._spoken = Spoken(MAX_LOG_BYTES)
        self._child: subprocess.Popen[bytes] | None = None
        self._ends_s = 0.0
        self._kill_s: float | None = None

    @property
    def candidate(self) -> Path:
        """The folder with what came of it."""
        return self.folder / CANDIDATE

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._spoken.progress

    def start(self, now_s: float) -> None:
        """Writes the order and starts the child.

        Args:
            now_s: monotonic.

        Raises:
            ConfigError: the trainer lacks what it rests on.
            StorageError: the folder cannot be written, or the child cannot be started.
        """
        require(self._trainer)
        write_durably(self.folder / ORDER, msgspec.json.encode(self.order), mode=0o600)
        limits = (self._limits.timeout_s, self._limits.memory_bytes)
        # -P: without the folder that the node was started in, where anybody's modules may lie.
        command = [sys.executable, "-P", "-m", "cloud.training.child"]
        try:
            self._child = subprocess.Popen(
                [*command, *map(str, (os.getpid(), *limits, self.folder.absolute()))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise disk_trouble("start the trainer in", self.folder, error) from error
        if self._child.stdout is not None:
            os.set_blocking(self._child.stdout.fileno(), False)
        self._ends_s = now_s + self._limits.timeout_s + LATE_S

    def poll(self, now_s: float) -> Report | None:
        """Returns the report once the child has ended well, None while it runs.

        Args:
            now_s: monotonic.

        Raises:
            ArtefactError: it failed, crashed or took too long.
            StorageError: its progress cannot be written.
        """
        child = self._child
        if child is not None and not has_ended(child):
            self._listen(child)
            if now_s >= self._ends_s:
                self._press(child, now_s)
            return None
        self._reap()
        if self._kill_s is not None:
            raise ArtefactError(f"training failed: {self._too_long}")
        code = child.returncode if child is not None else 0
        report = read_report(self.candidate) if code == 0 else None
        if report is None:
            raise ArtefactError(f"training failed: {self._ending(code)}")
        return report

    def stop(self) -> None:
        """Ends the child and whatever it has started: asks, waits a moment, and then kills.

        It waits for some seconds where a child is deaf: whoever serves others meanwhile polls.
        """
        child = self._child
        if child is None or child.returncode is not None:
            return
        if not has_ended(child):
            _signal_group(child, signal.SIGTERM)
            ends_s = time.monotonic() + KILL_S
            while not has_ended(child) and time.monotonic() < ends_s:
                time.sleep(0.01)
        self._reap()

    def _press(self, child: subprocess.Popen[bytes], now_s: float) -> None:
        """Ends a child whose time is up over several turns: asks, and kills after a moment."""
        if self._kill_s is None:
            self._kill_s = now_s + KILL_S
            _signal_group(child, signal.SIGTERM)
        elif now_s >= self._kill_s:
            _signal_group(child, signal.SIGKILL)

    def _reap(self) -> None:
        """Kills what is left of the group, and takes what the child has said last."""
        child = self._child
        if child is None or child.returncode is not None:
            return
        # It is a zombie still, so that its number, which is its group's, is nobody else's yet.
        _signal_group(child, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(KILL_S)
        self._listen(child)
        if child.stdout is not None:
            child.stdout.close()
        with contextlib.suppress(OSError):
            (self.folder / LOG).write_bytes(self._spoken.tail)

    def _listen(self, child: subprocess.Popen[bytes]) -> None:
        """Takes what the child has printed; who prints more than is read is slowed down."""
        if child.stdout is None:
            return
        news, taken = False, 0
        with contextlib.suppress(BlockingIOError):
            while taken < MAX_READ_BYTES and (data := os.read(child.stdout.fileno(), 2**16)):
                news |= self._spoken.add(data)
                taken += len(data)
        if news:
            with contextlib.suppress(OSError):  # only people look at it
                written = self.folder / f".{PROGRESS}.tmp"
                written.write_bytes(msgspec.json.encode(self._spoken.progress))
                written.replace(self.folder / PROGRESS)

    @property
    def _too_long(self) -> str:
        return f"it took more than the {self._limits.timeout_s:g} s of training.timeout_s"

    def _ending(self, code: int) -> str:
        said = self._spoken.tail.decode(errors="replace")[-MAX_REASON_CHARACTERS:].strip()
        if code > 0:
            return said or f"it ended with code {code}"
        match -code:
            case 0:
                how = "it ended without a candidate"
            case signal.SIGALRM | signal.SIGTERM:
                how = self._too_long
            case signal.SIGKILL:
                how = "its process was killed (signal 9): for want of memory?"
            case number:
                how = f"its process crashed (signal {number})"
        return f"{how}. It said: {said}" if said else how


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _environment() -> dict[str, str]:
    """Returns the child's variables: it finds the very code that runs here.

    It has one thread: on a small machine it must leave a core to whoever answers samples, and sums
    in another order would be another model.
    """
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(Path(shared.__file__).resolve().parents[1]), *filter(os.path.isabs, given)]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
