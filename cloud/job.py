"""A training job as a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from cloud.trainer import Job, Report, read_report
from shared.durable import disk_trouble, write_durably
from shared.errors import ArtefactError

TIMEOUT_S = 1800.0
MAX_REASON_BYTES = 500


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
            StorageError: the folder cannot be written, or the child cannot be started.
        """
        write_durably(self.folder / "job.json", msgspec.json.encode(self.job))
        # One thread: on a small machine the trainer must leave a core to whoever answers samples,
        # and sums in another order would be another model.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        try:
            with self._log.open("wb") as log:
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "cloud.trainer", str(self.folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                )
        except OSError as error:
            raise disk_trouble("start the trainer in", self.folder, error) from error
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
            raise ArtefactError(f"training failed with code {code}: {self._last_words()}")
        return report

    def stop(self) -> None:
        """Ends the child, if it runs."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    def _last_words(self) -> str:
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - MAX_REASON_BYTES))
                return log.read(MAX_REASON_BYTES).decode(errors="replace").strip()
        except OSError as error:
            return f"its log cannot be read: {error.strerror}"

    @property
    def _log(self) -> Path:
        return self.folder / "trainer.log"
