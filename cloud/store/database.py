"""The database of the store: opened, locked, read and written, every error a StorageError."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from cloud.store.schema import LAYOUT, METADATA, SAMPLES, STATE
from shared.errors import StorageError

LOCK_S = 5.0
"""So long a loop waits for another writer. Past it a batch is left to its site, which sends it
again: well before a broker misses the loop's keepalive."""
STATEMENT_S = 60.0
IDLE_S = 30.0
"""So long a process may do nothing within a transaction: a frozen one holds the only right to
write. PostgreSQL ends its session then."""
CACHE_KIB = 8192
CONNECT_S = 5
LINK = {
    "connect_timeout": CONNECT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A server that is gone without a word is noticed after some 30 s."""
MAKE_TRIES = 3
LOOKUP = 500
"""At most so many values an IN list."""

log = logging.getLogger(__name__)


AnyRow: TypeAlias = "sa.Row[*tuple[Any, ...]]"
Query: TypeAlias = "sa.Select[*tuple[Any, ...]]"


class RowsRefusedError(StorageError):
    """The database is well, and does not take these rows."""


class Database:
    """A database by its URL. Several processes may have it open; it may be used from two threads.

    Args:
        url: SQLAlchemy URL: SQLite's or PostgreSQL's.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine: sa.Engine | None = None

    def open(self) -> None:
        """Connects and makes the tables where they are missing.

        Raises:
            StorageError: the database cannot be opened, or is of another layout.
        """
        try:
            engine = _engine(self._url)
            try:
                _make_tables(engine)
            except BaseException:
                engine.dispose()
                raise
        except (SQLAlchemyError, ImportError) as error:
            remedy = _missing_extra(error)
            raise StorageError(f"cannot open the store: {_brief(error)}{remedy}") from error
        self._engine = engine

    def close(self) -> None:
        """Closes the connections."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Gives a connection to read with.

        Raises:
            StorageError: the database does not answer.
        """
        try:
            with self._opened().connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StorageError(f"the store does not answer: {_brief(error)}") from error

    @contextmanager
    def writing(self, numbers: int = 0) -> Iterator[tuple[sa.Connection, int]]:
        """Gives a connection for one transaction, and the only right to write until its end.

        Args:
            numbers: how many numbers it gives to what it writes.

        Yields:
            The connection and the first of the numbers.

        Raises:
            RowsRefusedError: it does not take these rows.
            StorageError: it takes nothing now.
        """
        lock = sa.update(STATE).values(last_number=STATE.c.last_number + numbers)
        try:
            with self._opened().begin() as connection:
                # The first statement: from here on everybody else waits.
                last = connection.execute(lock.returning(STATE.c.last_number)).scalar_one()
                yield connection, last - numbers + 1
        except (DataError, IntegrityError) as error:
            raise RowsRefusedError(f"the store refuses these rows: {_brief(error)}") from error
        except SQLAlchemyError as error:
            raise StorageError(f"the store cannot be written: {_brief(error)}") from error

    def rows(self, query: Query) -> Sequence[AnyRow]:
        """Returns all rows of a query.

        Raises:
            StorageError: the database does not answer.
        """
        with self.reading() as connection:
            return connection.execute(query).all()

    def _opened(self) -> sa.Engine:
        if self._engine is None:
            raise StorageError("the store is not open")
        return self._engine


def insert_new(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]
) -> int:
    """Inserts rows, but for those that are there already; returns how many are new.

    Args:
        connection: of a transaction.
        table: the table.
        rows: with a value for each of its columns.
    """
    statement, order = _insertion(connection.dialect, table)
    # Not by way of the statement: SQLAlchemy takes as long for each row's values as SQLite for the
    # row.
    values = list(map(itemgetter(*order), rows)) if order else list(rows)
    options = {"preserve_rowcount": True}
    return connection.exec_driver_sql(statement, values, execution_options=options).rowcount


@lru_cache(maxsize=64)
def _insertion(dialect: sa.Dialect, table: sa.Table) -> tuple[str, tuple[str, ...]]:
    """Returns the text of an insert, and the order of its values; none where they have names."""
    insert = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
    compiled = insert(table).on_conflict_do_nothing().compile(dialect=dialect)
    return str(compiled), tuple(getattr(compiled, "positiontup", None) or ())


def grow(connection: sa.Connection, by_bytes: int) -> None:
    """Notes how much more the store holds, as a part of a transaction; less, if negative."""
    connection.execute(sa.update(STATE).values(stored_bytes=STATE.c.stored_bytes + by_bytes))


def in_parts(values: Sequence[Any], size: int = LOOKUP) -> Iterator[Sequence[Any]]:
    """Cuts values into parts that a query may name."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _engine(url: str) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "postgresql":
        engine = sa.create_engine(parsed, pool_pre_ping=True, connect_args=LINK)
        sa.event.listen(engine, "connect", _prepare_postgresql)
        return engine
    if parsed.get_backend_name() != "sqlite":
        raise StorageError(
            f"the store speaks SQLite and PostgreSQL, not {parsed.get_backend_name()}. Fix: write "
            "`store: sqlite` or `store: {url: postgresql://user:${PASSWORD}@host/name}`"
        )
    engine = sa.create_engine(parsed, connect_args={"timeout": LOCK_S})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_postgresql(connection: Any, record: object) -> None:
    for setting, limit_s in (
        ("lock_timeout", LOCK_S),
        ("statement_timeout", STATEMENT_S),
        ("idle_in_transaction_session_timeout", IDLE_S),
    ):
        connection.execute(f"SET {setting} = {int(1000 * limit_s)}")
    connection.commit()


def _prepare_sqlite(connection: Any, record: object) -> None:
    for setting in (
        "journal_mode=WAL",
        "synchronous=FULL",
        f"cache_size=-{CACHE_KIB}",
        f"journal_size_limit={64 * 2**20}",
    ):
        connection.execute(f"PRAGMA {setting}")


_EMPTY = {"layout": LAYOUT, "last_number": 0, "stored_bytes": 0}


def _make_tables(engine: sa.Engine) -> None:
    """Makes what is missing. Another process may do so at the same time."""
    for attempt in range(1, MAKE_TRIES + 1):
        try:
            with engine.begin() as connection:
                _check_layout(connection)
                METADATA.create_all(connection)
                if connection.execute(sa.select(STATE.c.layout)).first() is None:
                    connection.execute(STATE.insert(), _EMPTY)
        except SQLAlchemyError:
            if attempt == MAKE_TRIES:
                raise
        else:
            return


def _check_layout(connection: sa.Connection) -> None:
    """Refuses a store of another layout, before anything of it is touched."""
    tables = sa.inspect(connection).get_table_names()
    if STATE.name in tables:
        found = connection.execute(sa.select(sa.func.max(STATE.c.layout))).scalar()
    else:
        found = 1 if SAMPLES.name in tables else None
    if found in (None, LAYOUT):
        return
    raise StorageError(
        f"the store is of layout {found}; this version reads layout {LAYOUT} alone. Fix: run the "
        "version that made it, or move it away (or name another `store`): the cloud begins anew"
    )


def _missing_extra(error: Exception) -> str:
    return (
        ". Fix: pip install 'escalon[postgres]'"
        if isinstance(error, ImportError) and "psycopg" in str(error)
        else ""
    )


def _brief(error: Exception) -> str:
    """Returns what a database says, without the statement and its values."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
