"""How much has come behind a number. What it costs does not grow with the store."""

from __future__ import annotations

import sqlalchemy as sa

from cloud.store.database import Database, Query
from cloud.store.schema import AUDITED, LABELS, SAMPLES, STATE


class News:
    """Counts what is new.

    Args:
        database: the store's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self) -> int:
        """Returns the newest number; 0 if there is none."""
        return int(self._database.rows(sa.select(STATE.c.last_number))[0][0])

    def samples(self, pipeline: str, number: int, enough: int) -> int:
        """Returns how many samples came behind a number, ``enough`` at most."""
        return self._count(_behind(pipeline, number), enough)

    def labels(self, pipeline: str, number: int, enough: int) -> int:
        """Returns how many samples behind a number can teach and have a label, ``enough`` at most.

        That is those with an input that the audit drew, and those that a person has labelled.
        """
        behind = _behind(pipeline, number).where(SAMPLES.c.place.is_not(None))
        audits = self._count(behind.where(AUDITED), enough)
        if audits == enough:
            return enough
        by_people = behind.join(LABELS, LABELS.c.number == SAMPLES.c.number)
        by_people = by_people.where(LABELS.c.number > number, ~SAMPLES.c.audit)
        return audits + self._count(by_people, enough - audits)

    def _count(self, query: Query, enough: int) -> int:
        counted = sa.select(sa.func.count()).select_from(query.limit(enough).subquery())
        return int(self._database.rows(counted)[0][0])


def _behind(pipeline: str, number: int) -> Query:
    columns = SAMPLES.c
    return sa.select(columns.number).where(columns.pipeline == pipeline, columns.number > number)
