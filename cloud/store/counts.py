"""What gates of tier-1 nodes counted."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from cloud.store.database import Database, Query
from cloud.store.schema import COUNTS


class CountRow(NamedTuple):
    """A node's counts since its counts before.

    Attributes:
        number: of the row; grows.
        received_s: seconds since 1970.
        node: the node.
        model_version: of its model.
        seen: samples that it gated.
        unsure: how many it was not sure of.
    """

    number: int
    received_s: float
    node: str
    model_version: str
    seen: int
    unsure: int


class Counts:
    """Reads gate counts.

    Args:
        database: the store's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(self, pipeline: str, number: int, limit: int) -> list[CountRow]:
        """Returns the counts behind a number, oldest first."""
        return [
            CountRow(*row) for row in self._database.rows(select_counts(pipeline, number, limit))
        ]


def select_counts(pipeline: str, number: int, limit: int) -> Query:
    """Returns the query of ``Counts.after``."""
    columns = COUNTS.c
    names = ("number", "received", "node", "model_version", "seen", "unsure")
    return (
        sa.select(*(columns[name] for name in names))
        .where(columns.pipeline == pipeline, columns.number > number)
        .order_by(columns.number)
        .limit(limit)
    )
