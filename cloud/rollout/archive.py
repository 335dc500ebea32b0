"""How the rollouts of a channel ended, on the disk: a file each, the latest of very many."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cloud.rollout.record import RolloutFile, RolloutRecord, published_seq
from shared.durable import write_durably
from shared.errors import StorageError

MAX_ARCHIVED = 50

log = logging.getLogger(__name__)


class RolloutArchive:
    """The rollouts before the present one.

    Args:
        folder: of the channel.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, ended: RolloutRecord) -> None:
        """Keeps how a rollout ended.

        Raises:
            StorageError: the disk does not take it.
        """
        write_durably(self._folder / f"{ended.id}.json", msgspec.json.encode(ended))
        kept = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for path in kept[:-MAX_ARCHIVED]:
            path.unlink(missing_ok=True)

    def read(self) -> Iterator[RolloutRecord]:
        """Yields them, newest first; one that cannot be read is said, and left out."""
        found = []
        for path in self._folder.glob("*.json"):
            try:
                record = RolloutFile(path).read()
            except StorageError as error:
                log.warning("left out of the rollouts before: %s", error)
                continue
            if record is not None:
                found.append(record)
        yield from sorted(found, key=lambda each: (each.number, each.began_s), reverse=True)

    def last_seq(self) -> int:
        """Returns the highest seq that any of them was published under; 0 for none."""
        return max(map(published_seq, self._folder.glob("*.json")), default=0)
