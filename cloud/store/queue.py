"""The labelling queue: what people are asked to label, most informative first, so many a day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from cloud.store.database import AnyRow, Database, Query, in_parts
from cloud.store.schema import REQUESTS, SAMPLES, UNSURE

DAY_S = 86_400
AGAIN_DAYS = 30
"""What was asked and not answered may be asked again so many days later."""
KEPT_DAYS = 3650
"""Longer than any sample: what was asked for is no random sample, as long as it is there."""


@dataclass(frozen=True)
class Queued:
    """A sample that a person is asked to label.

    Attributes:
        number: of the sample, for ``TelemetryStore.inputs``.
        site: whence it comes.
        node: who asked tier-2 about it.
        sensor: who sent it.
        id: what its sensor calls it.
        timestamp: as its sensor wrote it.
        received_s: when it came to the cloud, seconds since 1970.
        margin: between tier-2's two best labels, 0 to 1: the smaller, the more it would learn.
        guesses: tier-2's best labels and their probabilities, best first.
        tier1_guess: tier-1's best label; empty where its scores were malformed.
    """

    number: int
    site: str
    node: str
    sensor: str
    id: str
    timestamp: str
    received_s: float
    margin: float
    guesses: tuple[tuple[str, float], ...]
    tier1_guess: str


class LabellingQueue:
    """Chooses by the margin (``records.margins`` names the source).

    The samples of a day are chosen when somebody first looks, and filled up to the limit when
    somebody looks again. One that gets its label leaves, and no other takes its place that day.
    One that gets none is not asked again for ``AGAIN_DAYS``: the same few would keep all others
    out. What has no input to look at, or malformed scores of tier-2, is not asked at all.

    Args:
        database: the store's.
        classes: the labels that samples may have, by pipeline.
    """

    def __init__(self, database: Database, classes: Mapping[str, Sequence[str]]) -> None:
        self._database = database
        self._classes = classes

    def today(self, pipeline: str, daily_limit: int, now_s: float) -> list[Queued]:
        """Returns the samples of today that have no label yet, most informative first.

        Args:
            pipeline: the pipeline.
            daily_limit: at most so many are asked for a day, labelled or not.
            now_s: seconds since 1970; a day ends at midnight UTC.

        Raises:
            StorageError: the database does not answer.
        """
        day = int(now_s // DAY_S)
        with self._database.writing() as (connection, _):
            asked = [row.number for row in connection.execute(_select_asked(pipeline, day, day))]
            missing = daily_limit - len(asked)
            if missing > 0:
                lately = connection.execute(_select_asked(pipeline, day - AGAIN_DAYS + 1, day))
                known = {row.number for row in lately}
                candidates = connection.execute(select_unsure(pipeline, missing + len(known)))
                new = [row.number for row in candidates if row.number not in known][:missing]
                rows = [
                    {"pipeline": pipeline, "day": day, "number": number, "place": place}
                    for place, number in enumerate(new, len(asked))
                ]
                if rows:
                    connection.execute(REQUESTS.insert(), rows)
                asked += new
            connection.execute(sa.delete(REQUESTS).where(REQUESTS.c.day < day - KEPT_DAYS))
            return self._open(connection, pipeline, asked)

    def asked_for(self, pipeline: str) -> NDArray[np.int64]:
        """Returns the numbers of what people were asked to label, labelled or not.

        Raises:
            StorageError: the database does not answer.
        """
        query = sa.select(REQUESTS.c.number).where(REQUESTS.c.pipeline == pipeline)
        return np.array([row.number for row in self._database.rows(query)], np.int64)

    def _open(
        self, connection: sa.Connection, pipeline: str, numbers: Sequence[int]
    ) -> list[Queued]:
        found: list[Queued] = []
        for part in in_parts(numbers):
            query = sa.select(SAMPLES).where(
                SAMPLES.c.number.in_(part), SAMPLES.c.label.is_(None), SAMPLES.c.place.is_not(None)
            )
            found += [self._queued(row, pipeline) for row in connection.execute(query)]
        return sorted(found, key=lambda each: (each.margin, each.number))

    def _queued(self, row: AnyRow, pipeline: str) -> Queued:
        classes = self._classes.get(pipeline, ())
        return Queued(
            row.number, row.site, row.node, row.sensor, row.id, row.timestamp, row.received,
            row.margin, _guesses(row.tier2_scores, classes, 2),
            "".join(label for label, _ in _guesses(row.tier1_scores, classes, 1)),
        )  # fmt: skip


def select_unsure(pipeline: str, limit: int) -> Query:
    """Returns the query for what tier-2 is least sure of, and nobody has labelled."""
    columns = SAMPLES.c
    return (
        sa.select(columns.number)
        .where(columns.pipeline == pipeline, UNSURE)
        .order_by(columns.margin)
        .limit(limit)
    )


def _select_asked(pipeline: str, first_day: int, last_day: int) -> Query:
    columns = REQUESTS.c
    days = columns.day.between(first_day, last_day)
    query = sa.select(columns.number).where(columns.pipeline == pipeline, days)
    return query.order_by(columns.place)


def _guesses(scores: bytes, classes: Sequence[str], count: int) -> tuple[tuple[str, float], ...]:
    """Returns the best labels and their probabilities; none of malformed scores."""
    table = np.frombuffer(scores, "<f4")
    if not np.isfinite(table).all():
        return ()
    best = np.argsort(-table, kind="stable")[:count].tolist()
    named = classes if len(classes) == len(table) else [str(place) for place in range(len(table))]
    return tuple((named[place], round(float(table[place]), 6)) for place in best)
