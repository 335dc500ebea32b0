"""Samples in columns, as drift, certificates and training read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from cloud.store.database import AnyRow, Database, Query, in_parts
from cloud.store.schema import AUDITED, PACKS, SAMPLES
from shared.scores import Floats

NO_LABEL = -1


@dataclass(frozen=True)
class Traffic:
    """N samples in columns, oldest first.

    Attributes:
        number: int64 [N], row numbers, for ``TelemetryStore.inputs``.
        received_s: float64 [N], seconds since 1970.
        tier1: float32 [N, labels], tier-1's calibrated probabilities; NaN where malformed.
        tier2: float32 [N, labels], tier-2's.
        audit: bool [N], drawn at random, from all samples alike.
        reason: why it was sent: ``low_confidence``, ``audit``, ``invalid_scores``, ``offline`` (not
            sure, and could not be asked when it came) and so on.
        inclusion_probability: float64 [N], in (0, 1].
        tier1_version: of the model that was not sure, or was audited.
        tier2_version: of the model that answered.
        label: int64 [N], a person's: its place among the pipeline's labels; -1 for none.
        has_input: bool [N], whether the input is in the store.
    """

    number: NDArray[np.int64]
    received_s: NDArray[np.float64]
    tier1: Floats
    tier2: Floats
    audit: NDArray[np.bool_]
    reason: tuple[str, ...]
    inclusion_probability: NDArray[np.float64]
    tier1_version: tuple[str, ...]
    tier2_version: tuple[str, ...]
    label: NDArray[np.int64]
    has_input: NDArray[np.bool_]

    def __len__(self) -> int:
        """Returns N."""
        return len(self.number)


@dataclass(frozen=True)
class InputShares:
    """How many of the newest samples came with their input, and without.

    Attributes:
        hard: of those that tier-1 was not sure of.
        hard_withheld: those without.
        audits: of those that were only audited.
        audits_withheld: those without.
    """

    hard: int
    hard_withheld: int
    audits: int
    audits_withheld: int


COLUMNS = tuple(
    SAMPLES.c[name]
    for name in (
        "number", "received", "tier1_scores", "tier2_scores", "audit", "reason",
        "inclusion_probability", "tier1_version", "tier2_version", "label", "place",
    )
)  # fmt: skip


IS_AUDITED = (AUDITED, SAMPLES.c.audit.is_(True))
"""As the index says it, and as its column."""


class TrafficReader:
    """Selects samples. What a query costs grows with what it selects, not with the store.

    Args:
        database: the store's.
        classes: the labels that samples may have, by pipeline.
    """

    def __init__(self, database: Database, classes: Mapping[str, Sequence[str]]) -> None:
        self._database = database
        self._classes = classes

    def read(
        self,
        pipeline: str,
        *,
        since_s: float,
        after: int,
        limit: int,
        tier1_version: str | None,
        audited_only: bool,
        newest: bool,
    ) -> Traffic:
        """Returns samples; the arguments are those of ``TelemetryStore.traffic``."""
        with self._database.reading() as connection:
            width = self._width(connection, pipeline)
            lowest = lowest_since(connection, pipeline, since_s, after)
            if width == 0 or lowest is None:
                return _columns([], max(width, 2), ())
            query = select_traffic(
                pipeline,
                since_s=since_s,
                lowest=lowest,
                limit=limit,
                tier1_version=tier1_version,
                audited_only=audited_only,
                newest=newest,
                width=width,
            )
            rows: Sequence[AnyRow] = connection.execute(query).all()
        if newest:
            rows = rows[::-1]
        return _columns(rows, width, self._classes.get(pipeline, ()))

    def by_number(self, pipeline: str, numbers: Sequence[int]) -> Traffic:
        """Returns samples by their numbers, oldest first."""
        columns = SAMPLES.c
        rows: list[AnyRow] = []
        with self._database.reading() as connection:
            width = self._width(connection, pipeline)
            for part in in_parts(sorted(numbers)):
                query = sa.select(*COLUMNS).where(
                    columns.number.in_(part), columns.pipeline == pipeline, columns.width == width
                )
                rows += connection.execute(query.order_by(columns.number)).all()
        return _columns(rows, max(width, 2), self._classes.get(pipeline, ()))

    def input_shares(self, pipeline: str, limit: int) -> InputShares:
        """Returns how many of the newest samples came with their input, and without."""
        columns = SAMPLES.c
        query = (
            sa.select(columns.reason, columns.place)
            .where(columns.pipeline == pipeline)
            .order_by(columns.number.desc())
            .limit(limit)
        )
        rows = self._database.rows(query)
        hard = [row.place is None for row in rows if row.reason != "audit"]
        audits = [row.place is None for row in rows if row.reason == "audit"]
        return InputShares(
            hard.count(False), hard.count(True), audits.count(False), audits.count(True)
        )

    def _width(self, connection: sa.Connection, pipeline: str) -> int:
        """Returns how many labels the samples have: the configured ones, or the newest sample's."""
        if pipeline in self._classes:
            return len(self._classes[pipeline])
        newest = (
            sa.select(SAMPLES.c.width)
            .where(SAMPLES.c.pipeline == pipeline)
            .order_by(SAMPLES.c.number.desc())
            .limit(1)
        )
        return connection.execute(newest).scalar() or 0


def select_traffic(
    pipeline: str,
    *,
    since_s: float,
    lowest: int,
    limit: int,
    tier1_version: str | None,
    audited_only: bool,
    newest: bool,
    width: int,
) -> Query:
    """Returns the query of ``TelemetryStore.traffic``.

    Args:
        pipeline: the pipeline.
        since_s: seconds since 1970.
        lowest: no sample with a lower number came since then, or is wanted.
        limit: at most so many.
        tier1_version: those of one version alone; None for all.
        audited_only: those that the audit drew alone.
        newest: whether the newest are wanted, where there are more than the limit.
        width: samples with scores for another number of labels are left out.
    """
    columns = SAMPLES.c
    query = sa.select(*COLUMNS).where(
        columns.pipeline == pipeline,
        columns.number >= lowest,
        columns.received >= since_s,
        columns.width == width,
    )
    if tier1_version is not None:
        query = query.where(columns.tier1_version == tier1_version)
    if audited_only:
        query = query.where(*IS_AUDITED)
    order = columns.number.desc() if newest else columns.number
    return query.order_by(order).limit(limit)


def lowest_since(
    connection: sa.Connection, pipeline: str, since_s: float, after: int
) -> int | None:
    """Returns a number below which no sample is wanted; None if none came since.

    Packs are few, and know when they came: by them an instant becomes a number.
    """
    if since_s <= 0:
        return after + 1
    first = connection.execute(
        sa.select(sa.func.min(PACKS.c.first)).where(
            PACKS.c.pipeline == pipeline, PACKS.c.received >= since_s
        )
    ).scalar()
    return None if first is None else max(first, after + 1)


def _columns(rows: Sequence[AnyRow], width: int, classes: Sequence[str]) -> Traffic:
    by_column: list[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    number, received, tier1, tier2, audit, reason, chance, version1, version2, label, place = (
        by_column
    )
    places = {name: index for index, name in enumerate(classes)}
    return Traffic(
        number=np.array(number, np.int64),
        received_s=np.array(received, np.float64),
        tier1=_scores(tier1, width),
        tier2=_scores(tier2, width),
        audit=np.array(audit, np.bool_),
        reason=tuple(reason),
        inclusion_probability=np.array(chance, np.float64),
        tier1_version=tuple(version1),
        tier2_version=tuple(version2),
        label=np.array([places.get(name, NO_LABEL) for name in label], np.int64),
        has_input=np.array([each is not None for each in place], np.bool_),
    )


def _scores(rows: Sequence[bytes], width: int) -> Floats:
    return np.frombuffer(b"".join(rows), "<f4").astype(np.float32).reshape(len(rows), width)
