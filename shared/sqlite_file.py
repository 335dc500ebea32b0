"""A SQLite database on a disk that may fail: opened when it is needed, put aside when damaged."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.errors import StorageError

SAYS_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

log = logging.getLogger(__name__)


class SqliteFile:
    """A database (WAL, synchronous=FULL) whose every error is a StorageError.

    It is opened at its first use. After an error it is closed, and the next use opens it anew: the
    disk may be another by then. A file that SQLite finds damaged is put aside under the ending
    ``.corrupt``, where it replaces an earlier one, and a new one is begun.

    Args:
        path: the file.
        prepare: called with every new connection before it is used; it may raise what SQLite does.
    """

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None]) -> None:
        self._path = path
        self._prepare = prepare
        self._database: sqlite3.Connection | None = None
        self._is_damaged = False

    def open(self) -> None:
        """Opens the file, if it is not open.

        Raises:
            StorageError: it cannot be.
        """
        self._opened()

    @contextmanager
    def use(self, purpose: str) -> Iterator[sqlite3.Connection]:
        """Gives the database for one transaction: all of it, or none.

        Args:
            purpose: what is done with it, for the error: ``read`` or ``write``.

        Raises:
            StorageError: it cannot be opened or used.
        """
        database = self._opened()
        with self._translated(purpose), database:
            yield database

    @contextmanager
    def use_with(self, other: Path) -> Iterator[sqlite3.Connection]:
        """Gives the database for one transaction with another one, called ``other`` in it.

        Raises:
            StorageError: one of them cannot be opened or used. Whose fault it is cannot be told,
                so that neither is put aside.
        """
        database = self._opened()
        with self._translated(f"take over {other} into", tells_damage=False):
            database.execute("ATTACH DATABASE ? AS other", (str(other),))
            try:
                with database:
                    yield database
            finally:
                database.execute("DETACH DATABASE other")

    def close(self) -> None:
        """Closes the file; the next use opens it again."""
        database, self._database = self._database, None
        if database is not None:
            try:
                database.close()
            except sqlite3.Error as error:
                log.warning("cannot close %s: %s", self._path, error)

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            with self._translated("open"):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._database = self._connect_to_a_sound_one()
        return self._database

    def _connect_to_a_sound_one(self) -> sqlite3.Connection:
        if not self._is_damaged:
            try:
                return self._connect()
            except sqlite3.Error as error:
                if not _says_damaged(error):
                    raise
        self._put_aside()
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path)
        try:
            # A damaged text is no UTF-8: it is one more unknown key, no error at each reading.
            database.text_factory = lambda text: text.decode(errors="replace")
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            self._prepare(database)
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _put_aside(self) -> None:
        aside = self._path.with_suffix(".corrupt")
        with suppress(FileNotFoundError):
            self._path.replace(aside)
        for suffix in ("-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        self._is_damaged = False
        log.error("%s is damaged; put aside as %s", self._path, aside.name)

    @contextmanager
    def _translated(self, purpose: str, *, tells_damage: bool = True) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise StorageError(f"cannot {purpose} {self._path}: {error}") from error
        except (sqlite3.Error, OSError) as error:
            self._is_damaged |= tells_damage and _says_damaged(error)
            self.close()
            raise StorageError(f"cannot {purpose} {self._path}: {error}") from error


def _says_damaged(error: Exception) -> bool:
    # An extended code holds the primary one in its lowest byte (sqlite.org/rescode.html).
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in SAYS_DAMAGED
