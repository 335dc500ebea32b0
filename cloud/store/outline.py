"""What is to be known of samples before one reads them whole: without scores and inputs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from cloud.store.database import Database
from cloud.store.schema import SAMPLES
from cloud.store.traffic import lowest_since


@dataclass(frozen=True)
class Outline:
    """N samples in columns.

    Attributes:
        number: int64 [N], row numbers.
        chance: float64 [N], inclusion probabilities, in (0, 1].
        audit: bool [N], drawn at random, from all samples alike.
        has_input: bool [N], whether the input is in the store.
        node: the tier-1 node that sent it, with its site: ``site/node``.
    """

    number: NDArray[np.int64]
    chance: NDArray[np.float64]
    audit: NDArray[np.bool_]
    has_input: NDArray[np.bool_]
    node: tuple[str, ...]

    def __len__(self) -> int:
        """Returns N."""
        return len(self.number)

    @classmethod
    def oldest_first(cls, pages: Sequence[Outline]) -> Outline:
        """Returns all of the pages that were read one after the other, newest first."""
        nodes = tuple(chain.from_iterable(page.node for page in pages))
        return cls(
            number=np.concatenate([page.number for page in pages])[::-1],
            chance=np.concatenate([page.chance for page in pages])[::-1],
            audit=np.concatenate([page.audit for page in pages])[::-1],
            has_input=np.concatenate([page.has_input for page in pages])[::-1],
            node=nodes[::-1],
        )


class OutlineReader:
    """Reads outlines.

    Args:
        database: the store's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(
        self, pipeline: str, *, since_s: float, before: int | None, limit: int, tier2_version: str
    ) -> Outline:
        """Returns samples; the arguments are those of ``TelemetryStore.outline``."""
        columns = SAMPLES.c
        query = sa.select(
            columns.number,
            columns.inclusion_probability,
            columns.audit,
            columns.place,
            columns.site,
            columns.node,
        ).where(columns.pipeline == pipeline, columns.received >= since_s)
        query = query.where(columns.tier2_version == tier2_version)
        with self._database.reading() as connection:
            lowest = lowest_since(connection, pipeline, since_s, 0)
            query = query.where(columns.number >= (lowest or 0))
            if before is not None:
                query = query.where(columns.number < before)
            query = query.order_by(columns.number.desc()).limit(0 if lowest is None else limit)
            rows = connection.execute(query).all()
        return Outline(
            number=np.array([row[0] for row in rows], np.int64),
            chance=np.array([row[1] for row in rows], np.float64),
            audit=np.array([row[2] for row in rows], np.bool_),
            has_input=np.array([row[3] is not None for row in rows], np.bool_),
            # Of a million rows, each name is one object.
            node=tuple(sys.intern(f"{row[4]}/{row[5]}") for row in rows),
        )
