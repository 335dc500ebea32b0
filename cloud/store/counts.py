"""What gates of tier-1 nodes counted."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from cloud.store.database import Database, Query
from cloud.store.schema import COUNTS
from shared.messages import CertificateState


class CountRow(NamedTuple):
    """A node's counts since its counts before.

    Attributes:
        number: of the row; grows.
        received_s: seconds since 1970.
        node: the node.
        model_version: of its model.
        seen: samples that it gated.
        unsure: how many it was not sure of.
        certificate: whether what was certified of its threshold counts, as it said last.
        drift_alarms: that it counted meanwhile.
    """

    number: int
    received_s: float
    node: str
    model_version: str
    seen: int
    unsure: int
    certificate: CertificateState
    drift_alarms: int


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
    return (
        sa.select(
            columns.number,
            columns.received,
            columns.node,
            columns.model_version,
            columns.seen,
            columns.unsure,
            columns.certificate,
            columns.drift_alarms,
        )
        .where(columns.pipeline == pipeline, columns.number > number)
        .order_by(columns.number)
        .limit(limit)
    )
