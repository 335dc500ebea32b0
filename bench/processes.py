"""The contestants' processes: started, measured, ended by their own handle."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.errors import BenchError
from bench.machine import Cpus, cpu_s, rss_mib
from escalon.demo.interrupts import deferred_interrupts

ROOT = Path(__file__).parents[1]
STOP_TIMEOUT_S = 10.0
TAIL_LINES = 3


class Child:
    """A Python module in a process of its own, on the contestants' CPU.

    Args:
        name: for messages and the log's name.
        arguments: of ``python -m``: the module and what follows.
        folder: for its log.
        cpus: where it runs.
    """

    def __init__(self, name: str, arguments: Sequence[str], folder: Path, cpus: Cpus) -> None:
        self.name = name
        self._arguments = arguments
        self._log = folder / f"{name}.log"
        self._cpus = cpus
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it."""
        with (
            self._log.open("ab") as log,
            deferred_interrupts(),
            self._cpus.running_on(self._cpus.contestant),
        ):
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "ORT_DISABLE_TELEMETRY": "1"},
            )

    def check(self) -> None:
        """Looks whether it lives.

        Raises:
            BenchError: it does not; with the last lines of its log.
        """
        if self._process is None or self._process.poll() is not None:
            raise BenchError(f"{self.name} does not run{self.last_words()}")

    def last_words(self) -> str:
        """Returns the last lines of its log, to be put behind a message."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return ": " + " | ".join(lines[-TAIL_LINES:]) if lines else ""

    @property
    def cpu_s(self) -> float:
        """CPU time that it has used, in s."""
        return cpu_s(self._pid)

    @property
    def rss_mib(self) -> float:
        """Resident memory, in MiB."""
        return rss_mib(self._pid)

    def stop(self) -> None:
        """Ends it by SIGTERM, or by SIGKILL where that takes too long; idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Ends it by SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def _pid(self) -> int:
        self.check()
        if self._process is None:
            raise BenchError(f"{self.name} was not started")
        return self._process.pid
