"""A training job as a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from cloud.trainer import Job, Report, read_report
from shared.durable import write_durably
from shared.errors import ArtefactError

TIMEOUT_S = 1800.0
MAX_REASON_CHARACTERS = 500


class TrainingJob:
    """Runs the trainer on a folder.

    Args:
        folder: the job's folder; its data stand in it already.
        job: what to train.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        self.folder = folder
        self.job = job
        self._child: subprocess.Popen[bytes] | None = None
        self._ends_s = 0.0

    @property
    def candidate(self) -> Path:
        """The folder with what came of it."""
        return self.folder / "candidate"

    def start(self, now_s: float) -> None:
        """Writes the job and starts the child.

        Raises:
            StorageError: the folder cannot be written.
        """
        write_durably(self.folder / "job.json", msgspec.json.encode(self.job))
        # One thread: on a small machine the trainer must leave a core to whoever answers samples,
        # and sums in another order would be another model.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "cloud.trainer", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        self._ends_s = now_s + TIMEOUT_S

    def poll(self, now_s: float) -> Report | None:
        """Returns the report once the child has ended well, None while it runs.

        Raises:
            ArtefactError: it failed, crashed or took too long.
        """
        code = self._child.poll() if self._child is not None else 0
        if code is None:
            if now_s >= self._ends_s:
                self.stop()
                raise ArtefactError(f"training took more than {TIMEOUT_S:g} s")
            return None
        report = read_report(self.candidate) if code == 0 else None
        if report is None:
            said = self._log.read_bytes().decode(errors="replace")[-MAX_REASON_CHARACTERS:]
            raise ArtefactError(f"training failed with code {code}: {said.strip()}")
        return report

    def stop(self) -> None:
        """Ends the child, if it runs."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    @property
    def _log(self) -> Path:
        return self.folder / "trainer.log"
