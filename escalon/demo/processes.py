"""The demo's processes: started, watched, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from escalon.demo.interrupts import deferred_interrupts
from shared.errors import EscalonError

STOP_TIMEOUT_S = 6.0
TAIL_LINES = 15


class ProcessDiedError(EscalonError):
    """A process ended that should not have."""


class Processes:
    """Child processes by name, each with a log of its own.

    Args:
        logs: folder for the logs.
        environment: added to ours.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self._logs = logs
        self._environment = environment
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, module: str, arguments: Sequence[str], *, stdin: bool = False
    ) -> None:
        """Starts ``python -m module arguments``.

        Args:
            name: for messages and the log's name.
            module: what to run.
            arguments: its arguments.
            stdin: whether ``tell`` is to reach it.
        """
        with self._log(name).open("ab") as log, deferred_interrupts():
            self._children[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | self._environment | {"PYTHONUNBUFFERED": "1"},
                # Ctrl-C in the terminal is for the demo, which then ends all in its order.
                start_new_session=True,
            )

    def tell(self, name: str, line: str) -> None:
        """Writes a line to a process's standard input."""
        pipe = self._children[name].stdin
        if pipe is not None:
            try:
                pipe.write(f"{line}\n".encode())
                pipe.flush()
            except BrokenPipeError:
                self.check()

    def check(self) -> None:
        """Looks whether all live.

        Raises:
            ProcessDiedError: one does not; with the last lines of its log.
        """
        for name, child in self._children.items():
            code = child.poll()
            if code is not None:
                raise ProcessDiedError(
                    f"{name} ended with code {code}. The last lines of {self._log(name)}:\n"
                    + self.tail(name)
                )

    def wait(self, name: str, timeout_s: float) -> bool:
        """Waits for a process to end by itself; returns whether it ended well in time."""
        child = self._children.pop(name)
        try:
            return child.wait(timeout_s) == 0
        except subprocess.TimeoutExpired:
            self._children[name] = child
            return False

    def tail(self, name: str) -> str:
        """Returns the last lines of a process's log."""
        lines = self._log(name).read_text(errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])

    def stop(self) -> None:
        """Ends all: SIGTERM, and SIGKILL for what does not end in time."""
        for child in self._children.values():
            child.terminate()
        ends_s = time.monotonic() + STOP_TIMEOUT_S
        for child in self._children.values():
            try:
                child.wait(max(0.0, ends_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                # Its workers are in its group. Confined children are not: the kernel ends them when
                # their parent dies (PR_SET_PDEATHSIG, confinement.py).
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            if child.stdin is not None:
                child.stdin.close()
        self._children.clear()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"
