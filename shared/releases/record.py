"""What a node remembers of a channel across restarts: one file, replaced whole."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from shared.durable import write_durably
from shared.errors import StorageError
from shared.messages import UNREADABLE, UpdateReport
from shared.releases.machine import State

log = logging.getLogger(__name__)


class ChannelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A channel's memory.

    Attributes:
        seq: highest accepted; no older manifest is accepted again.
        active: envelope of the release that serves.
        previous: envelope of the one before.
        pending: envelope of an update under way.
        state: where that update is, or how the last one ended.
        quarantined: digests that failed after the swap, never tried again.
        retry: the last update ended for a reason that lay not in the release (no chunks in time,
            the disk), so the same seq may be taken again.
        report: the last one published.
    """

    seq: int = 0
    active: bytes | None = None
    previous: bytes | None = None
    pending: bytes | None = None
    state: State = State.IDLE
    quarantined: tuple[str, ...] = ()
    retry: bool = False
    report: UpdateReport | None = None


class ChannelFile:
    """The file of a channel's record.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> ChannelRecord:
        """Returns the record; an empty one if there is none. A broken file is put aside.

        Raises:
            StorageError: the disk does not give it.
        """
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=ChannelRecord)
        except FileNotFoundError:
            return ChannelRecord()
        except OSError as error:
            raise StorageError(f"cannot read {self._path}: {error.strerror}") from error
        except UNREADABLE as error:
            aside = self._path.with_suffix(".broken")
            log.error("%s cannot be read (%s); put aside as %s", self._path, error, aside.name)
            self._path.replace(aside)
            return ChannelRecord()

    def peek(self) -> ChannelRecord | None:
        """Returns the record as another process has left it, None if it cannot be read now.

        For who does not own the file: it is left where it is.
        """
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=ChannelRecord)
        except (OSError, *UNREADABLE):
            return None

    def stamp(self) -> tuple[int, int] | None:
        """Returns what changes whenever the file is replaced, None where there is none."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def write(self, record: ChannelRecord) -> None:
        """Replaces the record.

        Raises:
            StorageError: it cannot be written; the old one still stands.
        """
        write_durably(self._path, msgspec.json.encode(record))
