"""A bounded queue on disk. What is in it survives kill -9 and leaves only when it is told to."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sqlite3 import Connection

    from shared.sqlite_file import SqliteFile

SIZE = "COALESCE(LENGTH(payload), 0)"
OLDEST = "number = (SELECT MIN(number) FROM entries)"

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
            there.
        key: what it is removed by.
        payload: what it holds.
    """

    number: int
    key: str
    payload: bytes


class Spool:
    """A queue of payloads by key, oldest first (SQLite, WAL, synchronous=FULL).

    Its file is opened at its first use, and after an error anew at the next one. A damaged file is
    put aside, and an empty one begun.

    Args:
        path: the database file.
        limits: what it may hold.
    """

    def __init__(self, path: Path, limits: SpoolLimits) -> None:
        self._path = path
        self._limits = limits
        self._file: SqliteFile | None = None
        self._bytes = 0
        self._last_number = 0

    @property
    def exists(self) -> bool:
        """Whether it has a file, or that cannot be told."""
        return may_exist(self._path)

    @property
    def payload_bytes(self) -> int:
        """How many bytes of payloads wait, as far as it was opened."""
        return self._bytes

    def open(self) -> None:
        """Opens the file now, and counts what is in it.

        Raises:
            StorageError: it cannot be opened.
        """
        self._database_file.open()

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
        with self._database_file.use("write") as database:
            last_number = self._append(database, entries, now)
            gone, left_bytes = self._shrink(
                database, now, self._bytes + sum(len(payload) for _, payload in entries)
            )
        self._last_number, self._bytes = last_number, left_bytes
        return gone

    def replace(self, key: str, entries: Sequence[tuple[str, bytes]]) -> None:
        """Appends entries in the place of one, whose age they have; without it, nothing.

        Args:
            key: of the entry that goes.
            entries: keys and payloads, oldest first; together about as large.

        Raises:
            StorageError: it cannot be written.
        """
        with self._database_file.use("write") as database:
            found = database.execute("SELECT at FROM entries WHERE key = ?", (key,)).fetchone()
            if found is None:
                return
            last_number = self._append(database, entries, found[0])
            freed_bytes = _delete_entries(database, "key = ?", key)
        self._last_number = last_number
        self._bytes += sum(len(payload) for _, payload in entries) - sum(freed_bytes)

    def after(self, number: int, count: int) -> list[Entry]:
        """Returns up to ``count`` entries behind a place in the queue, oldest first.

        Args:
            number: of the entry before them, which may be gone; 0 begins with the oldest.
            count: at most so many.

        Raises:
            StorageError: the file cannot be read.
        """
        with self._database_file.use("read") as database:
            rows = database.execute(
                "SELECT number, key, CAST(payload AS BLOB) FROM entries "
                "WHERE number > ? ORDER BY number LIMIT ?",
                (number, count),
            )
            return [Entry(place, str(key), payload or b"") for place, key, payload in rows]

    def remove(self, keys: Iterable[str]) -> None:
        """Removes entries; unknown keys are no error.

        Raises:
            StorageError: it cannot be written.
        """
        with self._database_file.use("write") as database:
            freed_bytes = sum(sum(_delete_entries(database, "key = ?", key)) for key in keys)
        self._bytes -= freed_bytes

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
        with self._database_file.use_with(path) as database:
            taken = database.execute(
                "INSERT OR IGNORE INTO entries (number, key, payload, at) "
                "SELECT ? + ROW_NUMBER() OVER (ORDER BY number), key, payload, at "
                "FROM other.entries",
                (self._last_number,),
            ).rowcount
            self._count(database)
        _delete_file(path)
        return taken

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    @property
    def _database_file(self) -> SqliteFile:
        if self._file is None:
            # Imported when there is something to keep: a node that keeps nothing spares 2 MiB.
            from shared.sqlite_file import SqliteFile  # noqa: PLC0415

            self._file = SqliteFile(self._path, self._prepare)
        return self._file

    def _prepare(self, database: Connection) -> None:
        database.execute(
            "CREATE TABLE IF NOT EXISTS entries "
            "(number INTEGER PRIMARY KEY, key TEXT UNIQUE, payload BLOB, at REAL)"
        )
        database.execute("CREATE INDEX IF NOT EXISTS entries_by_age ON entries (at)")
        self._count(database)

    def _count(self, database: Connection) -> None:
        """Finds out how much is in the file, and where its queue ends."""
        counted, last = database.execute(
            f"SELECT COALESCE(SUM({SIZE}), 0), COALESCE(MAX(number), 0) FROM entries"  # noqa: S608
        ).fetchone()
        self._bytes = counted
        self._last_number = max(self._last_number, last)

    def _append(
        self, database: Connection, entries: Sequence[tuple[str, bytes]], at_s: float
    ) -> int:
        """Writes entries behind the last one; returns the number of the new last one."""
        # By SQLite's own counting an empty queue would begin at 1 again, behind a reader.
        rows = [
            (number, key, payload, at_s)
            for number, (key, payload) in enumerate(entries, self._last_number + 1)
        ]
        database.executemany(
            "INSERT INTO entries (number, key, payload, at) VALUES (?, ?, ?, ?)", rows
        )
        return self._last_number + len(rows)

    def _shrink(self, database: Connection, now_s: float, held_bytes: int) -> tuple[int, int]:
        """Removes what is past a limit.

        Returns:
            How many entries that were, and how many bytes are left.
        """
        freed_bytes = _delete_entries(database, "at < ?", now_s - self._limits.max_age_s)
        gone, held_bytes = len(freed_bytes), held_bytes - sum(freed_bytes)
        while held_bytes > self._limits.max_bytes:
            freed_bytes = _delete_entries(database, OLDEST)
            if not freed_bytes:
                return gone, 0
            gone += 1
            held_bytes -= freed_bytes[0]
        return gone, held_bytes


def may_exist(path: Path) -> bool:
    """Returns whether there is a file, or True if that cannot be told."""
    try:
        return path.exists()
    except OSError:
        return True


def _delete_entries(database: Connection, condition: str, *values: str | float) -> list[int]:
    """Returns the sizes of the entries that it deletes."""
    statement = f"DELETE FROM entries WHERE {condition} RETURNING {SIZE}"  # noqa: S608 - our own
    return [size for (size,) in database.execute(statement, values).fetchall()]


def _delete_file(path: Path) -> None:
    """Deletes a database; one that stays is taken over once more, which changes nothing."""
    try:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot delete %s: %s", path, error)
