"""From the database into files: packs that came one by one are put together, and moved out.

A pack is committed with its rows, in the database. When enough of them have come, a file of all is
written first, and then the rows name it: a row never names a file that is not there, whenever the
process dies. What it has written and not named is left over, and found by its age.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa

from cloud.store.database import Database, in_parts
from cloud.store.files import InputFiles
from cloud.store.schema import PACKS, STAGED

SEAL_BYTES = 8 * 2**20
SEAL_AGE_S = 3600.0
MAX_SEALED = 4096
ORPHAN_AGE_S = 3600.0
LOOK_EVERY_S = 6 * 3600.0

log = logging.getLogger(__name__)


class Sealing:
    """Writes files of packs.

    Args:
        database: the store's.
        files: where to.
    """

    def __init__(self, database: Database, files: InputFiles) -> None:
        self._database = database
        self._files = files

    def turn(self, now_s: float) -> bool:
        """Writes one file, if there is enough for one, or it has waited long enough.

        Args:
            now_s: seconds since 1970.

        Returns:
            Whether it wrote one.

        Raises:
            StorageError: the file or the database cannot be written.
        """
        numbers = self._due(now_s)
        if not numbers:
            return False
        chunks: list[bytes] = []
        places = []
        offset = 0
        for part in in_parts(numbers):
            query = sa.select(PACKS.c.number, PACKS.c.data).where(PACKS.c.number.in_(part))
            for number, data in self._database.rows(query.order_by(PACKS.c.number)):
                places.append({"of": number, "starts": offset})
                chunks.append(data)
                offset += len(data)
        name = self._files.write(b"".join(chunks), now_s)
        update = (
            sa.update(PACKS)
            .where(PACKS.c.number == sa.bindparam("of"))
            .values(file=name, offset=sa.bindparam("starts"), data=None)
        )
        with self._database.writing() as (connection, _):
            connection.execute(update, places)
        log.debug("moved %d packs into %s", len(places), name)
        return True

    def _due(self, now_s: float) -> list[int]:
        """Returns the packs of the next file; none while it is too early."""
        columns = PACKS.c
        query = (
            sa.select(columns.number, columns.input_bytes, columns.received)
            .where(STAGED)
            .order_by(columns.number)
            .limit(MAX_SEALED)
        )
        taken: list[int] = []
        size = 0
        is_due = False
        for number, input_bytes, received in self._database.rows(query):
            taken.append(number)
            size += input_bytes
            is_due |= received <= now_s - SEAL_AGE_S
            if size >= SEAL_BYTES:
                return taken
        return taken if is_due or len(taken) == MAX_SEALED else []


class Orphans:
    """Deletes files that no row names: a process died between the file and the commit.

    Args:
        database: the store's.
        files: where they are.
    """

    def __init__(self, database: Database, files: InputFiles) -> None:
        self._database = database
        self._files = files
        self._days: list[str] = []
        self._look_s = 0.0

    def turn(self, now_s: float) -> bool:
        """Looks through one day's files; returns whether there is another day.

        Args:
            now_s: seconds since 1970.

        Raises:
            StorageError: files or database do not answer.
        """
        if not self._days:
            if now_s < self._look_s:
                return False
            self._look_s = now_s + LOOK_EVERY_S
            self._days = self._files.days()
        if not self._days:
            return False
        day = self._days.pop()
        written = self._files.of_day(day)
        old = [name for name, written_s in written.items() if written_s < now_s - ORPHAN_AGE_S]
        orphans = set(old)
        for part in in_parts(old):
            named = self._database.rows(sa.select(PACKS.c.file).where(PACKS.c.file.in_(part)))
            orphans -= {row.file for row in named}
        if orphans:
            log.warning("deleting %d files of inputs that nothing names", len(orphans))
            self._files.remove(sorted(orphans))
        if len(orphans) == len(written):
            self._files.remove_day(day)
        return bool(self._days)
