"""Telemetry in: several messages in one transaction, each once, all of them or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from cloud.store.arrivals import Arrived, Content, read_arrivals
from cloud.store.database import Database, RowsRefusedError, grow, in_parts, insert_new
from cloud.store.labels import Labels, LabelTally
from cloud.store.packs import Pack, packed, shape_text
from cloud.store.records import Row, Sample, margins, row_bytes
from cloud.store.schema import BATCHES, COUNTS, EPOCH, EPOCH_BITS, PACKS, SAMPLES, STATE
from shared.errors import StorageError

TRIES = 3

Occurrence = tuple[int, str, str]
"""What two records of one sample share, whatever their questions: identity, node, timestamp."""


@dataclass(frozen=True)
class Stored:
    """What became of messages.

    Attributes:
        repeated: messages that were stored before; nothing of them is stored twice.
        samples: records stored.
        known: records of samples that were stored before.
        broken: records and counts left out.
        withheld: how many records came without their input, by pipeline.
        labels: what became of people's labels.
    """

    repeated: int = 0
    samples: int = 0
    known: int = 0
    broken: int = 0
    withheld: Mapping[str, int] = field(default_factory=dict)
    labels: LabelTally = field(default_factory=LabelTally)


class TelemetryIn:
    """Writes messages into the store.

    Args:
        database: the store's.
        labels: where people's labels go.
    """

    def __init__(self, database: Database, labels: Labels) -> None:
        self._database = database
        self._labels = labels

    def add(self, arrivals: Sequence[Arrived], now_s: float) -> Stored:
        """Stores messages in one transaction. A record that is broken is left out, and counted.

        Args:
            arrivals: the messages.
            now_s: seconds since 1970.

        Raises:
            RowsRefusedError: the database does not take one of them.
            StorageError: the database takes nothing now.
        """
        nameless = next((each for each in arrivals if not each.is_named), None)
        if nameless is not None:
            raise RowsRefusedError(f"a batch of {nameless.telemetry.sender} has no usable name")
        for _ in range(TRIES):
            fresh = self._fresh(arrivals)
            content = read_arrivals(fresh)
            unknown, last = self._unknown(content.samples)
            packs = list(packed(unknown))
            written = self._write(fresh, packs, content, last, now_s)
            if written is not None:
                new, tally = written
                return Stored(
                    repeated=len(arrivals) - len(fresh),
                    samples=new,
                    known=len(content.samples) - new,
                    broken=content.broken,
                    withheld=_withheld(packs),
                    labels=tally,
                )
        raise StorageError("other processes store the same messages again and again")

    def _fresh(self, arrivals: Sequence[Arrived]) -> list[Arrived]:
        """Returns the messages that are not stored, each once."""
        by_key = {each.key: each for each in arrivals}
        columns = (BATCHES.c.site, BATCHES.c.sender, BATCHES.c.batch)
        for part in in_parts(list(by_key)):
            query = sa.select(*columns).where(sa.tuple_(*columns).in_(part))
            for site, sender, batch in self._database.rows(query):
                by_key.pop((site, sender, batch), None)
        return list(by_key.values())

    def _unknown(self, samples: Sequence[Sample]) -> tuple[list[Sample], int]:
        """Leaves out what was asked about before, with another question: tier-1 died between.

        It looks at the latest samples alone, an epoch or two of them. What comes again as the same
        question, be it after months, is found by the index of questions when it is written.

        Returns:
            What is left, and the newest number that was looked at: what others write behind it,
            until the right to write is had, is looked at then.
        """
        with self._database.reading() as connection:
            last = connection.execute(sa.select(STATE.c.last_number)).scalar_one()
            behind = ((last >> EPOCH_BITS) - 1) << EPOCH_BITS
            known = _occurrences(connection, samples, behind)
        unknown = []
        for sample in samples:
            occurrence = _occurrence(sample)
            if occurrence not in known:
                known.add(occurrence)
                unknown.append(sample)
        return unknown, last

    def _write(
        self,
        fresh: Sequence[Arrived],
        packs: Sequence[Pack],
        content: Content,
        last: int,
        now_s: float,
    ) -> tuple[int, LabelTally] | None:
        """Writes it all, or nothing and returns None: another process was faster with some of it.

        Args:
            fresh: the messages.
            packs: their samples, but for what was known when ``last`` was the newest number.
            content: what else they hold.
            last: see there.
            now_s: seconds since 1970.

        Returns:
            How many samples are new, and what became of the labels.
        """
        needed = sum(len(pack.samples) + 1 for pack in packs) + len(content.counts)
        with self._database.writing(needed) as (connection, first):
            overtaken = first - 1 > last and _are_known(connection, packs, last)
            if overtaken or not self._claim(connection, fresh, now_s):
                connection.rollback()
                return None
            rows, heads = _numbered(packs, first, now_s)
            new = 0
            if rows:
                new = insert_new(connection, SAMPLES, rows)
                insert_new(connection, PACKS, heads)
                grow(connection, sum(head["row_bytes"] + head["input_bytes"] for head in heads))
            counts = [
                {**row, "number": number, "received": now_s}
                for number, row in enumerate(content.counts, first + len(rows) + len(heads))
            ]
            if counts:
                insert_new(connection, COUNTS, counts)
            self._labels.join_waiting(connection, rows)
            tally = self._labels.put(connection, content.labels, now_s)
        return new, tally

    def _claim(self, connection: sa.Connection, fresh: Sequence[Arrived], now_s: float) -> bool:
        """Notes that the messages are stored; returns False if another process has one."""
        if not fresh:
            return True
        names = ("site", "sender", "batch")
        rows = [dict(zip(names, each.key, strict=True), received=now_s) for each in fresh]
        return insert_new(connection, BATCHES, rows) == len(rows)


def _occurrence(sample: Sample) -> Occurrence:
    return sample.row["identity"], sample.row["node"], sample.row["timestamp"]


def _occurrences(
    connection: sa.Connection, samples: Sequence[Sample], behind: int
) -> set[Occurrence]:
    """Returns what is stored, behind a number, of the names that samples go by."""
    columns = SAMPLES.c
    newest = connection.execute(sa.select(STATE.c.last_number)).scalar_one()
    epochs = range(max(behind, 0) >> EPOCH_BITS, (newest >> EPOCH_BITS) + 1)
    known: set[Occurrence] = set()
    for part in in_parts([each.row["identity"] for each in samples]):
        query = sa.select(columns.identity, columns.node, columns.timestamp).where(
            EPOCH.in_(epochs), columns.identity.in_(part), columns.number > behind
        )
        known.update((row[0], row[1], row[2]) for row in connection.execute(query))
    return known


def _are_known(connection: sa.Connection, packs: Sequence[Pack], behind: int) -> bool:
    """Returns whether one of the samples was stored behind a number."""
    samples = [sample for pack in packs for sample in pack.samples]
    return not _occurrences(connection, samples, behind).isdisjoint(map(_occurrence, samples))


def _numbered(packs: Sequence[Pack], first: int, now_s: float) -> tuple[list[Row], list[Row]]:
    """Returns the rows of the samples and of their packs, which have the numbers behind them."""
    rows: list[Row] = []
    heads: list[Row] = []
    count = sum(len(pack.samples) for pack in packs)
    for place, pack in enumerate(packs):
        number = first + count + place
        own = [sample.row for sample in pack.samples]
        apart = margins([row["tier2_scores"] for row in own])
        for index, (row, margin) in enumerate(zip(own, apart, strict=True)):
            where = None if pack.kind is None else index
            row.update(
                number=first + len(rows), received=now_s, margin=margin, pack=number, place=where
            )
            rows.append(row)
        heads.append(pack_row(pack, number, (own[0]["number"], own[-1]["number"]), now_s))
    return rows, heads


def pack_row(
    pack: Pack, number: int, span: tuple[int, int], received_s: float, *, held: bool = False
) -> Row:
    """Returns the row of a pack whose inputs are not in a file yet.

    Args:
        pack: the pack.
        number: its.
        span: numbers of its first and its last sample.
        received_s: when they came, seconds since 1970.
        held: whether it holds only what is kept longest.
    """
    dtype, shape = pack.kind or (None, None)
    return {
        "number": number,
        "received": received_s,
        "pipeline": pack.pipeline,
        "held": held,
        "first": span[0],
        "last": span[1],
        "row_bytes": sum(row_bytes(sample.row) for sample in pack.samples),
        "input_bytes": 0 if pack.data is None else len(pack.data),
        "dtype": dtype,
        "shape": None if shape is None else shape_text(shape),
        "inputs": 0 if pack.data is None else len(pack.samples),
        "file": None,
        "offset": None,
        "data": pack.data,
    }


def _withheld(packs: Sequence[Pack]) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for pack in packs:
        if pack.kind is None:
            counted[pack.pipeline] += len(pack.samples)
    return dict(counted)
