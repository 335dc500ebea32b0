"""What people say that samples are. It outranks tier-2, and waits where its sample is not there."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cloud.store.arrivals import SiteLabel
from cloud.store.database import AnyRow, Database, in_parts
from cloud.store.records import Row, identity_of
from cloud.store.schema import EPOCH, EPOCH_BITS, LABELS, SAMPLES
from shared.errors import PayloadError
from shared.labels import check_class

MAX_WAITING = 100_000
PAGE = 1000

Key = tuple[str, str, str, str]
"""Whose sample: pipeline, site, sensor, id."""

KEY = (LABELS.c.pipeline, LABELS.c.site, LABELS.c.sensor, LABELS.c.id)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelTally:
    """What became of labels.

    Attributes:
        joined: their samples have them.
        waiting: their samples are not stored, or not yet.
        repeated: the store had them, or later ones of the same samples.
        refused: of an unknown class or pipeline.
        dropped: older ones that waited in vain, and made room.
    """

    joined: int = 0
    waiting: int = 0
    repeated: int = 0
    refused: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class KeptLabel:
    """A label in the store.

    Attributes:
        site: whence its sample comes.
        sensor: who sent that.
        id: what its sensor calls it.
        label: what it is.
        by: who said so; empty if nobody is named.
        labelled_s: when, seconds since 1970.
        number: of its sample; None while it waits for it.
    """

    site: str
    sensor: str
    id: str
    label: str
    by: str
    labelled_s: float
    number: int | None


class Labels:
    """Keeps the latest label of each sample.

    Args:
        database: the store's.
        classes: the labels that samples may have, by pipeline.
    """

    def __init__(self, database: Database, classes: Mapping[str, Sequence[str]]) -> None:
        self._database = database
        self._classes = classes

    def check(self, pipeline: str, label: str) -> None:
        """Refuses what no sample of a pipeline can be.

        Raises:
            PayloadError: there is no such pipeline, or no such class in it.
        """
        classes = self._classes.get(pipeline)
        if classes is None:
            known = ", ".join(self._classes)
            problem = f"pipeline {pipeline!r} is none of this cloud's: {known}"
            raise PayloadError("unknown_pipeline", problem, known)
        check_class(label, classes)

    def add(self, labels: Sequence[SiteLabel], now_s: float) -> LabelTally:
        """Keeps labels in one transaction.

        Args:
            labels: at most some thousands.
            now_s: seconds since 1970.

        Raises:
            StorageError: the database does not take them.
        """
        with self._database.writing() as (connection, _):
            return self.put(connection, labels, now_s)

    def put(
        self, connection: sa.Connection, labels: Sequence[SiteLabel], now_s: float
    ) -> LabelTally:
        """Keeps labels, as a part of a transaction; those of an unknown class are left out.

        One that claims to be said later than it came counts as said when it came: a clock that is
        wrong, or milliseconds, must not outrank every correction for ever.
        """
        wanted = self._latest(labels)
        refused = len(labels) - sum(count for _, count in wanted.values())
        known = _known(connection, list(wanted))
        new = {
            key: each
            for key, (each, _) in wanted.items()
            if key not in known or known[key] < _said_s(each, now_s)
        }
        repeated = len(labels) - refused - len(new)
        if not new:
            return LabelTally(repeated=repeated, refused=refused)
        identities = {identity_of(*key): key for key in new}
        samples = _find(connection, identities)
        _replace(connection, new, samples, now_s)
        updates = [
            {"of": number, "is_label": new[key].label.label}
            for key, numbers in samples.items()
            for number in numbers
        ]
        if updates:
            connection.execute(_GIVE, updates)
        waiting = len(new) - len(samples)
        dropped = _bound_waiting(connection) if waiting else 0
        return LabelTally(len(samples), waiting, repeated, refused, dropped)

    def join_waiting(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        """Gives new samples the labels that waited for them, as a part of a transaction."""
        waits = sa.select(sa.literal(1)).where(LABELS.c.number.is_(None)).limit(1)
        if not rows or connection.execute(waits).first() is None:
            return
        by_identity = {row["identity"]: row for row in rows}
        for part in in_parts(list(by_identity)):
            query = sa.select(*KEY, LABELS.c.identity, LABELS.c.label).where(
                LABELS.c.number.is_(None), LABELS.c.identity.in_(part)
            )
            for found in connection.execute(query).all():
                number = by_identity[found.identity]["number"]
                connection.execute(_GIVE, {"of": number, "is_label": found.label})
                its = sa.and_(*(column == found[place] for place, column in enumerate(KEY)))
                connection.execute(sa.update(LABELS).where(its).values(number=number))

    def kept(self, pipeline: str) -> Iterator[KeptLabel]:
        """Returns the labels of a pipeline, by site, sensor and id, a page in memory at a time.

        Raises:
            StorageError: the database does not answer.
        """
        columns = LABELS.c
        order = (columns.site, columns.sensor, columns.id)
        place = ("", "", "")
        while True:
            query = (
                sa.select(*order, columns.label, columns.by_whom, columns.labelled, columns.number)
                .where(columns.pipeline == pipeline, sa.tuple_(*order) > sa.tuple_(*place))
                .order_by(*order)
                .limit(PAGE)
            )
            page = self._database.rows(query)
            for row in page:
                yield KeptLabel(*row)
            if len(page) < PAGE:
                return
            place = tuple(page[-1][:3])

    def _latest(self, labels: Sequence[SiteLabel]) -> dict[Key, tuple[SiteLabel, int]]:
        """Returns the latest label of each sample, and how many of it came; without wrong ones."""
        found: dict[Key, tuple[SiteLabel, int]] = {}
        for each in labels:
            label = each.label
            try:
                self.check(label.pipeline, label.label)
            except PayloadError as error:
                log.warning(
                    "refused a label of sample %r of %s on %s: %s",
                    label.id, label.sensor, each.site, error,
                )  # fmt: skip
                continue
            key = (label.pipeline, each.site, label.sensor, label.id)
            before, count = found.get(key, (each, 0))
            later = each if label.labelled_s >= before.label.labelled_s else before
            found[key] = (later, count + 1)
        return found


_GIVE = (
    sa.update(SAMPLES)
    .where(SAMPLES.c.number == sa.bindparam("of"))
    .values(label=sa.bindparam("is_label"), held=True)
)


def find_numbers(connection: sa.Connection, identities: Sequence[int]) -> Iterator[AnyRow]:
    """Yields the samples of identities, newest epochs first: one probe of the index an epoch."""
    columns = SAMPLES.c
    lowest, highest = connection.execute(
        sa.select(sa.func.min(columns.number), sa.func.max(columns.number))
    ).one()
    if highest is None:
        return
    epochs = range(highest >> EPOCH_BITS, (lowest >> EPOCH_BITS) - 1, -1)
    for span in in_parts(epochs):
        for part in in_parts(identities):
            query = sa.select(
                columns.number, columns.identity, columns.timestamp, columns.pipeline,
                columns.site, columns.sensor, columns.id,
            ).where(EPOCH.in_(list(span)), columns.identity.in_(part))  # fmt: skip
            yield from connection.execute(query)


def _find(connection: sa.Connection, identities: Mapping[int, Key]) -> dict[Key, list[int]]:
    """Returns the numbers of the samples that people mean.

    A sensor may count its ids from 1 again: the newest sample of that id is meant, with all that
    was recorded of it.
    """
    found: dict[Key, list[tuple[int, str]]] = {}
    for row in find_numbers(connection, list(identities)):
        key = identities[row.identity]
        if key == (row.pipeline, row.site, row.sensor, row.id):
            found.setdefault(key, []).append((row.number, row.timestamp))
    numbers = {}
    for key, records in found.items():
        _, newest = max(records)
        numbers[key] = [number for number, timestamp in records if timestamp == newest]
    return numbers


def _said_s(label: SiteLabel, now_s: float) -> float:
    """Returns when it was said, at the latest when it came; what is no number is when it came."""
    said_s = label.label.labelled_s
    return said_s if said_s <= now_s else now_s


def _known(connection: sa.Connection, keys: Sequence[Key]) -> dict[Key, float]:
    """Returns when those of the samples were labelled that have a label."""
    known: dict[Key, float] = {}
    for part in in_parts(keys):
        query = sa.select(*KEY, LABELS.c.labelled).where(sa.tuple_(*KEY).in_(part))
        known.update(
            {(row[0], row[1], row[2], row[3]): row[4] for row in connection.execute(query)}
        )
    return known


def _replace(
    connection: sa.Connection,
    new: Mapping[Key, SiteLabel],
    samples: Mapping[Key, Sequence[int]],
    now_s: float,
) -> None:
    for part in in_parts(list(new)):
        connection.execute(sa.delete(LABELS).where(sa.tuple_(*KEY).in_(part)))
    rows = [
        {
            "pipeline": key[0],
            "site": key[1],
            "sensor": key[2],
            "id": key[3],
            "identity": identity_of(*key),
            "label": each.label.label,
            "by_whom": each.label.by,
            "labelled": _said_s(each, now_s),
            "received": now_s,
            "number": max(samples[key]) if key in samples else None,
        }
        for key, each in new.items()
    ]
    connection.execute(LABELS.insert(), rows)


def _bound_waiting(connection: sa.Connection) -> int:
    """Drops the oldest of the labels that wait, beyond what may; returns how many."""
    waits = LABELS.c.number.is_(None)
    count = connection.execute(sa.select(sa.func.count()).select_from(LABELS).where(waits)).scalar()
    excess = (count or 0) - MAX_WAITING
    if excess <= 0:
        return 0
    oldest = sa.select(*KEY).where(waits).order_by(LABELS.c.received).limit(excess)
    keys = [tuple(row) for row in connection.execute(oldest)]
    for part in in_parts(keys):
        connection.execute(sa.delete(LABELS).where(sa.tuple_(*KEY).in_(part)))
    log.warning("%d labels waited in vain for their samples, and made room for newer ones", excess)
    return excess
