"""One training on what came from the field: gathers its samples, and trains."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from cloud.gathering import Gathering
from cloud.training.job import TrainingJob
from cloud.training.order import CANDIDATE, ORDER, Order, Report
from cloud.training.progress import Progress
from cloud.training.telemetry import NAME as TELEMETRY
from shared.durable import disk_trouble
from shared.messages import UNREADABLE

GATHERING = Progress("gathering")

log = logging.getLogger(__name__)


class Retraining:
    """Gathers telemetry into a job's folder, then runs the order there.

    Where the telemetry stands already, gathered for the same teacher, it is what is trained on: so
    a training that the end of the cloud cut off goes on, and one that was done gives its candidate.

    Args:
        folder: the job's.
        order: what to train.
        gather: makes what writes the telemetry into a file.
    """

    def __init__(self, folder: Path, order: Order, gather: Callable[[Path], Gathering]) -> None:
        self._folder = folder
        self._order = order
        self._gather = gather
        self._gathering: Gathering | None = None
        self._job = TrainingJob(folder, order)

    @property
    def candidate(self) -> Path:
        """The folder with what came of it."""
        return self._folder / CANDIDATE

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._job.progress if self._gathering is None else GATHERING

    def start(self, now_s: float) -> None:
        """Begins, or goes on.

        Args:
            now_s: monotonic.

        Raises:
            ConfigError: the trainer lacks what it rests on.
            StorageError: the folder cannot be written, or the child cannot be started.
        """
        if self._is_gathered():
            self._job.start(now_s)
            return
        self._gathering = self._gather(self._folder / TELEMETRY)
        self._gathering.start()

    def poll(self, now_s: float) -> Report | None:
        """Returns the report once all has ended well, None until then.

        Args:
            now_s: monotonic.

        Raises:
            EscalonError: too little can certify, or the training failed.
        """
        if self._gathering is None:
            return self._job.poll(now_s)
        gathered = self._gathering.poll()
        if gathered is None:
            return None
        self._gathering = None
        if gathered.note:
            log.warning("%s: %s", self._order.pipeline, gathered.note)
        self._job.start(now_s)
        return None

    def stop(self) -> None:
        """Ends it; it goes on at the next start."""
        if self._gathering is not None:
            self._gathering.stop()
        self._job.stop()

    def _is_gathered(self) -> bool:
        """Whether the telemetry stands there: its order is written behind it."""
        try:
            before = msgspec.json.decode((self._folder / ORDER).read_bytes(), type=Order)
        except (OSError, *UNREADABLE):
            return False
        return before.teacher == self._order.teacher and (self._folder / TELEMETRY).exists()


def forget_order(folder: Path) -> None:
    """Has a training begin with other samples than one that failed in the same folder.

    Raises:
        StorageError: the disk does not let go of it.
    """
    try:
        (folder / ORDER).unlink(missing_ok=True)
    except OSError as error:
        raise disk_trouble("remove", folder / ORDER, error) from error
