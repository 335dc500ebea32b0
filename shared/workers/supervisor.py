"""The parent of a node's workers: starts them, starts them again, ends them with itself."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import shared
from shared.errors import StorageError
from shared.workers.restarts import Restarts, Verdict
from shared.workers.worker import Worker

STOP_S = 10.0  # a node drains for 3
DRAIN_BYTES = 4096

log = logging.getLogger(__name__)


class WorkerProcess:
    """One worker's process, in all its lives.

    Args:
        worker: the worker.
        command: what to run.
        rng: jitter.
    """

    def __init__(self, worker: Worker, command: Sequence[str], rng: random.Random) -> None:
        self.worker = worker
        self.start_s: float | None = 0.0
        self._command = command
        self._restarts = Restarts(worker, rng)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0

    def start(self, now_s: float) -> None:
        """Starts the process. One that cannot be started is tried again like one that has ended."""
        self.start_s, self._started_s = None, now_s
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,  # the lifeline: see lifeline.py
                env=os.environ | {"PYTHONPATH": _path_of_this_code()},
            )
        except OSError as error:
            log.error("worker %d cannot be started: %s", self.worker.index, error)
            self._restarts.ended(-1, 0.0)
            self.start_s = now_s + self._restarts.delay_s()
        else:
            log.info("worker %d runs as process %d", self.worker.index, self._process.pid)

    def reap(self, now_s: float) -> Verdict | None:
        """Returns what to do if the process has ended, else None."""
        process = self._process
        code = None if process is None else process.poll()
        if process is None or code is None:
            return None
        self._let_go(process)
        lived_s = now_s - self._started_s
        verdict = self._restarts.ended(code, lived_s)
        if verdict is Verdict.START_AGAIN:
            delay_s = self._restarts.delay_s()
            self.start_s = now_s + delay_s
            log.warning(
                "worker %d %s after %.1f s; it is started again in %.1f s",
                self.worker.index, _ending(code), lived_s, delay_s,
            )  # fmt: skip
        return verdict

    def signal(self, number: int) -> None:
        """Sends a signal to the process, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, timeout_s: float) -> None:
        """Waits for the end of the process; kills it when the time is up."""
        process = self._process
        if process is None:
            return
        try:
            process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            log.error("worker %d does not stop; it is killed", self.worker.index)
            process.kill()
            process.wait()
        self._let_go(process)

    def _let_go(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            process.stdin.close()
        self._process = None


class Supervisor:
    """Runs a node's workers until it is told to stop. It starts no process when it is made.

    Args:
        command: what runs a worker, up to its ``--worker``.
        workers: the node's, and those that leave.
        rng: jitter of the restarts.
        on_left: called with how many of the first workers are left when one has left for good.
    """

    def __init__(
        self,
        command: Sequence[str],
        workers: Sequence[Worker],
        rng: random.Random,
        on_left: Callable[[int], None],
    ) -> None:
        self._processes = [
            WorkerProcess(worker, [*command, "--worker", str(worker)], rng) for worker in workers
        ]
        self._on_left = on_left
        self._stopping = False
        self._code = 0

    def run(self) -> int:
        """Runs until SIGTERM or SIGINT, or until the node turns out not to be able to start.

        Returns:
            The exit code: 0, or 1 where a worker has said why it cannot start.
        """
        reader, writer = socket.socketpair()
        with reader, writer:
            self._listen(reader, writer)
            try:
                while not self._stopping:
                    self._turn(time.monotonic())
                    if not self._stopping:
                        self._wait(reader, time.monotonic())
            finally:
                self._stop()
                signal.set_wakeup_fd(-1)
        return self._code

    def _listen(self, reader: socket.socket, writer: socket.socket) -> None:
        """Has every signal write a byte, so that none is missed between a look and a wait."""
        reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _wait(self, reader: socket.socket, now_s: float) -> None:
        """Waits for a signal, the end of a child included, or until a start is due."""
        starts_s = [each.start_s for each in self._processes if each.start_s is not None]
        wait_s = max(0.0, min(starts_s) - now_s) if starts_s else None
        select.select([reader], [], [], wait_s)
        with contextlib.suppress(BlockingIOError):
            while reader.recv(DRAIN_BYTES):
                pass

    def _turn(self, now_s: float) -> None:
        for process in tuple(self._processes):
            verdict = process.reap(now_s)
            if verdict is Verdict.GIVE_UP:
                self._code, self._stopping = 1, True
                return
            if verdict is Verdict.DONE:
                self._let_leave(process)
            elif process.start_s is not None and now_s >= process.start_s:
                process.start(now_s)

    def _let_leave(self, process: WorkerProcess) -> None:
        log.info("worker %d has left", process.worker.index)
        self._processes.remove(process)
        try:
            self._on_left(max((each.worker.index + 1 for each in self._processes), default=1))
        except StorageError as error:
            log.error("it will be looked for at the next start, too: %s", error)

    def _stop(self) -> None:
        """Tells every worker to stop and waits for it, a bounded time in all."""
        for process in self._processes:
            process.signal(signal.SIGTERM)
        ends_s = time.monotonic() + STOP_S
        for process in self._processes:
            process.wait(ends_s - time.monotonic())


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _path_of_this_code() -> str:
    """Returns a ``PYTHONPATH`` that lets a child import the very code that runs here."""
    paths = [str(Path(shared.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(path for path in paths if path)
