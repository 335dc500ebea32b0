"""All that is stored of one sample, by what its sensor calls it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from cloud.store.database import AnyRow, Database, in_parts
from cloud.store.labels import find_numbers
from cloud.store.records import identity_of
from cloud.store.schema import SAMPLES
from shared.scores import Floats

LATELY = 50_000
"""Sensors that sent none of so many latest samples are not tried."""
MAX_FOUND = 100


@dataclass(frozen=True)
class FoundSample:
    """A sample.

    Attributes:
        number: of the row, for ``TelemetryStore.inputs``.
        received_s: when it came to the cloud, seconds since 1970.
        site: whence.
        node: the tier-1 node.
        sensor: who sent it.
        id: what its sensor calls it.
        timestamp: as its sensor wrote it.
        reason: why it was sent.
        audit: whether the audit drew it.
        inclusion_probability: the chance that such a sample is sent, in (0, 1].
        tier1_version: of tier-1's model.
        tier2_version: of tier-2's.
        tier1: float32 [labels], tier-1's probabilities.
        tier2: float32 [labels], tier-2's.
        label: a person's; None if nobody gave one.
        has_input: whether its input is in the store.
    """

    number: int
    received_s: float
    site: str
    node: str
    sensor: str
    id: str
    timestamp: str
    reason: str
    audit: bool
    inclusion_probability: float
    tier1_version: str
    tier2_version: str
    tier1: Floats
    tier2: Floats
    label: str | None
    has_input: bool


class Finder:
    """Finds samples by their ids.

    Args:
        database: the store's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(
        self, pipeline: str, sample_id: str, *, site: str | None, sensor: str | None
    ) -> list[FoundSample]:
        """Returns samples; the arguments are those of ``TelemetryStore.find``."""
        with self._database.reading() as connection:
            sources = [(site, sensor)] if site and sensor else _sources(connection, pipeline)
            identities = [
                identity_of(pipeline, each_site, each_sensor, sample_id)
                for each_site, each_sensor in sources
                if site in (None, each_site) and sensor in (None, each_sensor)
            ]
            numbers = [
                row.number for row in find_numbers(connection, identities) if row.id == sample_id
            ]
            newest = sorted(numbers, reverse=True)[:MAX_FOUND]
            found = []
            for part in in_parts(newest):
                rows = connection.execute(sa.select(SAMPLES).where(SAMPLES.c.number.in_(part)))
                found += [_found(row) for row in rows]
        return sorted(found, key=lambda each: -each.number)


def _sources(connection: sa.Connection, pipeline: str) -> list[tuple[str, str]]:
    columns = SAMPLES.c
    lately = (
        sa.select(columns.site, columns.sensor)
        .where(columns.pipeline == pipeline)
        .order_by(columns.number.desc())
        .limit(LATELY)
        .subquery()
    )
    query = sa.select(lately.c.site, lately.c.sensor).distinct()
    return [(site, sensor) for site, sensor in connection.execute(query)]


def _found(row: AnyRow) -> FoundSample:
    return FoundSample(
        number=row.number,
        received_s=row.received,
        site=row.site,
        node=row.node,
        sensor=row.sensor,
        id=row.id,
        timestamp=row.timestamp,
        reason=row.reason,
        audit=row.audit,
        inclusion_probability=row.inclusion_probability,
        tier1_version=row.tier1_version,
        tier2_version=row.tier2_version,
        tier1=np.frombuffer(row.tier1_scores, "<f4"),
        tier2=np.frombuffer(row.tier2_scores, "<f4"),
        label=row.label,
        has_input=row.place is not None,
    )
