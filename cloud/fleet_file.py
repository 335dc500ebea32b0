"""The fleet on the cloud's disk: for the command line, and for the cloud's next start."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from cloud.fleet_view import FleetSnapshot, FleetView
from cloud.record_file import read_record
from shared.durable import write_durably
from shared.errors import StorageError

EVERY_S = 2.0
ANEW_EVERY_S = 60.0
"""So often it is written though nothing has changed: its age says whether anybody watches."""

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
        self._trouble = ""

    @classmethod
    def of(cls, state_dir: Path) -> FleetFile:
        """Returns the file in a cloud's folder."""
        return cls(state_dir / "fleet.json")

    def read(self) -> FleetSnapshot | None:
        """Returns the latest snapshot, None if there is none.

        Raises:
            StorageError: the disk does not give it, or it is damaged. It is not taken for an empty
                fleet, to which a release goes at once.
        """
        return read_record(
            self._path, FleetSnapshot, "damaged",
            "Fix: start the cloud node; it writes it anew as soon as its broker has told it of the "
            "fleet",
        )  # fmt: skip

    def seed(self, view: FleetView) -> None:
        """Has a view begin with the latest snapshot. Without it the broker tells all the same."""
        try:
            snapshot = self.read()
        except StorageError as error:
            log.error("the fleet that was known before is not used: %s", error)
            return
        view.seed(snapshot.nodes if snapshot else ())

    def keep(self, view: FleetView, now_s: float, monotonic_s: float) -> bool:
        """Writes the fleet, at most every two seconds; returns whether it did.

        What fails is said when it begins, and tried again.

        Args:
            view: the fleet.
            now_s: seconds since 1970.
            monotonic_s: the clock by which that is held.
        """
        since_s = monotonic_s - self._written_s
        if since_s < (EVERY_S if view.changes != self._changes else ANEW_EVERY_S):
            return False
        self._written_s = monotonic_s
        snapshot = FleetSnapshot(taken=now_s, nodes=view.nodes())
        try:
            write_durably(self._path, msgspec.json.encode(snapshot))
        except StorageError as error:
            if str(error) != self._trouble:
                log.error("the command line cannot be shown the fleet: %s", error)
            self._trouble = str(error)
            return False
        self._trouble = ""
        self._changes = view.changes
        return True
