"""What a worker remembers of its session at the broker, which outlives the process."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import msgspec

from shared.durable import write_durably
from shared.errors import StorageError
from shared.files import read_if_there
from shared.messages import UNREADABLE
from shared.workers.worker import MAX_WORKERS, Worker

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_WORKERS)]

log = logging.getLogger(__name__)


class SessionState(msgspec.Struct, frozen=True):
    """What is known of a session.

    Attributes:
        filters: what it may be subscribed to, beside what a process always is.
        confirmed: whether the broker has said that it is subscribed to all of them.
        counts: by how many workers the samples in it may be split: the worker answers those that
            are its own by one of these numbers; 0: all of them.
    """

    filters: tuple[str, ...] = ()
    confirmed: bool = False
    counts: tuple[Count, ...] = ()


class SessionRecord:
    """The file that holds it, for each broker by its address.

    Args:
        folder: the node's.
        worker: whose session it is.
        url: the broker's address.
    """

    def __init__(self, folder: Path, worker: Worker, url: str) -> None:
        self._path = folder / worker.file_name("subscriptions.json")
        self._url = url

    def read(self) -> SessionState:
        """Returns what is known, which is nothing where there is no file.

        Raises:
            StorageError: the file cannot be read.
        """
        return self._read().get(self._url, SessionState())

    def write(self, state: SessionState) -> None:
        """Replaces what is known, durably.

        Raises:
            StorageError: it cannot be written; what was known still stands.
        """
        try:
            known = self._read()
        except StorageError:
            known = {}
        write_durably(self._path, msgspec.json.encode(known | {self._url: state}))

    def remove(self) -> None:
        """Forgets the worker's sessions, as the broker has.

        Raises:
            StorageError: the disk does not let it.
        """
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot remove {self._path}: {error.strerror}") from error

    def _read(self) -> dict[str, SessionState]:
        data = read_if_there(self._path)
        if data is None:
            return {}
        try:
            return msgspec.json.decode(data, type=dict[str, SessionState])
        except UNREADABLE as error:
            raise StorageError(f"{self._path} cannot be read: {error}") from error


class RememberedSession:
    """A process's own session: what it knows of it, and leaves to its next life.

    A disk that fails costs that, and nothing else: it is said, and tried again with the next
    change, or the next connection.

    Args:
        record: where it is written.

    Attributes:
        state: what is known.
    """

    def __init__(self, record: SessionRecord) -> None:
        self.state = SessionState()
        self._record = record
        self._unwritten = False

    def start(self) -> None:
        """Reads what earlier lives left."""
        try:
            self.state = self._record.read()
        except StorageError as error:
            log.error("subscriptions of an earlier life may stay in the session: %s", error)

    def remember(self, state: SessionState) -> None:
        """Takes what is known now, and writes it if it is new."""
        if state != self.state:
            self.state = state
            self._write()

    def on_connected(self) -> None:
        """Tries again what the disk did not take."""
        if self._unwritten:
            self._write()

    def _write(self) -> None:
        try:
            self._record.write(self.state)
        except StorageError as error:
            if not self._unwritten:
                log.error(
                    "the next life will not know what the session is subscribed to: %s", error
                )
            self._unwritten = True
        else:
            self._unwritten = False
