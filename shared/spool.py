"""A bounded queue on disk. What is in it survives kill -9 and leaves only when it is told to."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from shared.errors import StorageError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """What a spool may hold. Past a limit the oldest entries go, and are counted.

    Attributes:
        max_bytes: of payloads.
        max_age_s: of an entry.
    """

    max_bytes: int
    max_age_s: float


class Entry(NamedTuple):
    """One entry of a spool.

    Attributes:
        number: its place in the queue, from 1. It grows with every entry, as long as the spool is
            open.
        key: what it is removed by.
        payload: what it holds.
    """

    number: int
    key: str
    payload: bytes


class Spool:
    """A queue of payloads by key, oldest first (SQLite, WAL, synchronous=FULL).

    Args:
        path: the database file.
        limits: what it may hold.
    """

    def __init__(self, path: Path, limits: SpoolLimits) -> None:
        self._path = path
        self._limits = limits
        self._database: sqlite3.Connection | None = None
        self._bytes = 0
        self._last_number = 0

    def open(self) -> None:
        """Opens the file; one that is corrupt is put aside and a new one begun.

        Raises:
            StorageError: the folder cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connect()
        except sqlite3.OperationalError as error:
            raise StorageError(f"cannot open {self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            aside = self._path.with_suffix(f".corrupt-{int(time.time())}")
            log.error("%s is corrupt (%s); put aside as %s", self._path, error, aside.name)
            self._set_aside(aside)
            self._connect()
        except OSError as error:
            raise StorageError(f"cannot open {self._path}: {error.strerror}") from error

    @property
    def payload_bytes(self) -> int:
        """How many bytes of payloads wait."""
        return self._bytes

    def add(self, key: str, payload: bytes) -> int:
        """Appends an entry, durably.

        Returns:
            How many old entries had to go for it.

        Raises:
            StorageError: it cannot be written.
        """
        return self.add_all([(key, payload)])

    def add_all(self, entries: Sequence[tuple[str, bytes]]) -> int:
        """Appends entries, durably, with one write: all of them or none.

        Args:
            entries: keys and payloads, oldest first.

        Returns:
            How many old entries had to go for them.

        Raises:
            StorageError: they cannot be written.
        """
        now = time.time()
        database = self._open_database()
        try:
            with database:
                database.executemany(
                    "INSERT INTO entries (number, key, payload, at) VALUES (?, ?, ?, ?)",
                    [
                        (number, key, payload, now)
                        for number, (key, payload) in enumerate(entries, self._last_number + 1)
                    ],
                )
                # By SQLite's own counting an empty queue would begin at 1 again, behind a reader.
                self._last_number += len(entries)
                self._bytes += sum(len(payload) for _, payload in entries)
                return self._shrink(database, now)
        except sqlite3.Error as error:
            self._bytes = self._count_bytes(database)  # the transaction was rolled back
            raise StorageError(f"cannot write {self._path}: {error}") from error

    def oldest(self, count: int) -> list[tuple[str, bytes]]:
        """Returns up to ``count`` entries, oldest first, without removing them.

        Raises:
            StorageError: the file cannot be read.
        """
        return [(entry.key, entry.payload) for entry in self.after(0, count)]

    def after(self, number: int, count: int) -> list[Entry]:
        """Returns up to ``count`` entries behind a place in the queue, oldest first.

        Args:
            number: of the entry before them, which may be gone; 0 begins with the oldest.
            count: at most so many.

        Raises:
            StorageError: the file cannot be read.
        """
        try:
            rows = self._open_database().execute(
                "SELECT number, key, payload FROM entries WHERE number > ? ORDER BY number LIMIT ?",
                (number, count),
            )
            return [Entry(int(place), str(key), bytes(payload)) for place, key, payload in rows]
        except sqlite3.Error as error:
            raise StorageError(f"cannot read {self._path}: {error}") from error

    def remove(self, keys: tuple[str, ...]) -> None:
        """Removes entries; unknown keys are no error.

        Raises:
            StorageError: it cannot be written.
        """
        database = self._open_database()
        try:
            with database:
                database.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])
            self._bytes = self._count_bytes(database)
        except sqlite3.Error as error:
            raise StorageError(f"cannot write {self._path}: {error}") from error

    def adopt(self, path: Path) -> int:
        """Takes over the entries of a spool that nobody comes back to, and deletes its file.

        They stand behind the own ones, with the age that they have. After a crash it may be done
        again: an entry that is here already is the same.

        Args:
            path: the other's database file.

        Returns:
            How many entries were taken over.

        Raises:
            StorageError: it cannot be read, or not written here; it is left as it was.
        """
        database = self._open_database()
        try:
            database.execute("ATTACH DATABASE ? AS other", (str(path),))
            try:
                with database:
                    taken = database.execute(
                        "INSERT OR IGNORE INTO entries (number, key, payload, at) "
                        "SELECT ? + ROW_NUMBER() OVER (ORDER BY number), key, payload, at "
                        "FROM other.entries",
                        (self._last_number,),
                    ).rowcount
            finally:
                database.execute("DETACH DATABASE other")
            self._count(database)
        except sqlite3.Error as error:
            raise StorageError(f"cannot take over {path}: {error}") from error
        _delete(path)
        return taken

    def close(self) -> None:
        """Closes the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _connect(self) -> None:
        database = sqlite3.connect(self._path)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS entries "
                "(number INTEGER PRIMARY KEY, key TEXT UNIQUE, payload BLOB, at REAL)"
            )
            self._count(database)
        except sqlite3.Error:
            database.close()
            raise
        self._database = database

    def _open_database(self) -> sqlite3.Connection:
        if self._database is None:
            raise StorageError(f"{self._path} is not open")
        return self._database

    def _count(self, database: sqlite3.Connection) -> None:
        """Finds out how much is in the file, and where its queue ends."""
        self._bytes = self._count_bytes(database)
        (last,) = database.execute("SELECT MAX(number) FROM entries").fetchone()
        self._last_number = max(self._last_number, int(last or 0))

    def _set_aside(self, aside: Path) -> None:
        self._path.rename(aside)
        for suffix in ("-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def _shrink(self, database: sqlite3.Connection, now: float) -> int:
        oldest_allowed = now - self._limits.max_age_s
        gone = database.execute("DELETE FROM entries WHERE at < ?", (oldest_allowed,)).rowcount
        if gone:
            self._bytes = self._count_bytes(database)
        while self._bytes > self._limits.max_bytes:
            row = database.execute(
                "DELETE FROM entries WHERE number = (SELECT MIN(number) FROM entries) "
                "RETURNING LENGTH(payload)"
            ).fetchone()
            self._bytes -= int(row[0])
            gone += 1
        return gone

    @staticmethod
    def _count_bytes(database: sqlite3.Connection) -> int:
        (total,) = database.execute(
            "SELECT COALESCE(SUM(LENGTH(payload)), 0) FROM entries"
        ).fetchone()
        return int(total)


def _delete(path: Path) -> None:
    """Deletes a database; one that stays is taken over once more, which changes nothing."""
    try:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot delete %s: %s", path, error)
