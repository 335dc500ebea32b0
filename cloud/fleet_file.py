"""The fleet on the cloud's disk: for the command line, and for the cloud's next start."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from cloud.fleet_view import FleetSnapshot, FleetView
from shared.durable import write_durably
from shared.errors import StorageError
from shared.messages import UNREADABLE

EVERY_S = 2.0

log = logging.getLogger(__name__)


class FleetFile:
    """The file of the latest snapshot.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written_s = -EVERY_S
        self._changes = -1

    @classmethod
    def of(cls, state_dir: Path) -> FleetFile:
        """Returns the file in a cloud's folder."""
        return cls(state_dir / "fleet.json")

    def read(self) -> FleetSnapshot | None:
        """Returns the latest snapshot, None if there is none or it is damaged.

        A damaged one is written anew as soon as the cloud node hears of the fleet.

        Raises:
            StorageError: the disk does not give it.
        """
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=FleetSnapshot)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read {self._path}: {error.strerror}") from error
        except UNREADABLE as error:
            log.error("%s is damaged and is not used: %s", self._path, error)
            return None

    def keep(self, view: FleetView, now_s: float, monotonic_s: float) -> bool:
        """Writes what has changed, at most every two seconds; returns whether it did.

        Args:
            view: the fleet.
            now_s: seconds since 1970.
            monotonic_s: the clock by which that is held.

        Raises:
            StorageError: it cannot be written; it is tried again.
        """
        if view.changes == self._changes or monotonic_s < self._written_s + EVERY_S:
            return False
        self._written_s = monotonic_s
        snapshot = FleetSnapshot(taken=now_s, nodes=view.nodes())
        write_durably(self._path, msgspec.json.encode(snapshot))
        self._changes = view.changes
        return True
