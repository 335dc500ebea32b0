"""How much has come behind a number. What it costs does not grow with the store."""

from __future__ import annotations

import sqlalchemy as sa

from cloud.store.database import Database, Query
from cloud.store.schema import SAMPLES, STATE
from cloud.store.traffic import IS_AUDITED


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

    def audits(self, pipeline: str, number: int, enough: int, tier2_version: str | None) -> int:
        """Returns how many samples behind a number can certify, ``enough`` at most.

        Args:
            pipeline: the pipeline.
            number: of a row.
            enough: no need to count further.
            tier2_version: those that one version of tier-2 answered alone; None for all.
        """
        query = _behind(pipeline, number).where(SAMPLES.c.place.is_not(None), *IS_AUDITED)
        if tier2_version is not None:
            query = query.where(SAMPLES.c.tier2_version == tier2_version)
        return self._count(query, enough)

    def _count(self, query: Query, enough: int) -> int:
        counted = sa.select(sa.func.count()).select_from(query.limit(enough).subquery())
        return int(self._database.rows(counted)[0][0])


def _behind(pipeline: str, number: int) -> Query:
    columns = SAMPLES.c
    return sa.select(columns.number).where(columns.pipeline == pipeline, columns.number > number)
