"""What a node remembers of its workers across restarts: who of them the broker still knows."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from shared.durable import write_durably
from shared.files import read_if_there
from shared.messages import UNREADABLE
from shared.workers.worker import MAX_WORKERS

log = logging.getLogger(__name__)


class WorkersRecord:
    """The file that holds the largest number of workers whose sessions a broker may still keep.

    A session that nobody comes back to would go on taking its share of the samples.

    Args:
        folder: the node's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "workers.json"

    def read(self) -> int:
        """Returns the number, 1 where there is no file.

        Raises:
            StorageError: the disk does not give it.
        """
        data = read_if_there(self._path)
        if data is None:
            return 1
        try:
            number = msgspec.json.decode(data, type=int)
        except UNREADABLE as error:
            # Better to look for sessions that are not there than to forget one that is.
            log.error("%s cannot be read (%s): looking for every worker", self._path, error)
            return MAX_WORKERS
        return min(max(1, number), MAX_WORKERS)

    def write(self, number: int) -> None:
        """Replaces the number, durably.

        Raises:
            StorageError: it cannot be written; the old one still stands.
        """
        write_durably(self._path, msgspec.json.encode(number))
