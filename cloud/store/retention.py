"""What leaves the store: the oldest first, by age and by bytes, a bounded part a turn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cloud.store.database import AnyRow, Database, Query, in_parts
from cloud.store.files import InputFiles, Span
from cloud.store.packs import kind_of, press, unpress
from cloud.store.schema import BATCHES, COUNTS, LABELS, PACKS, SAMPLES

PACKS_A_TURN = 8
ROWS_A_TURN = 2000
BATCH_AGE_S = 30 * 86_400.0
"""A site sends a message again for as long as its spool keeps it, two weeks by default."""

log = logging.getLogger(__name__)

Pack = AnyRow


@dataclass(frozen=True)
class RetentionLimits:
    """What the store may hold.

    Attributes:
        max_age_s: of a sample.
        held_age_s: of one that a person has labelled, or that a certificate rests on.
        waiting_age_s: of a label whose sample is not stored.
        max_bytes: of rows and inputs together, about. Past it the oldest go; what is held goes when
            nothing else is left.
    """

    max_age_s: float
    held_age_s: float
    waiting_age_s: float
    max_bytes: int


class Retention:
    """Removes what is past a limit.

    Args:
        database: the store's.
        files: of inputs.
        limits: what it may hold.
    """

    def __init__(self, database: Database, files: InputFiles, limits: RetentionLimits) -> None:
        self._database = database
        self._files = files
        self._limits = limits

    def turn(self, now_s: float) -> bool:
        """Removes a bounded part of what is past a limit; returns whether there may be more.

        Args:
            now_s: seconds since 1970.

        Raises:
            StorageError: files or database do not answer.
        """
        packs = self._due(now_s)
        for pack in packs:
            if pack.held:
                self._remove(pack)
            else:
                self._retire(pack)
        pruned = self._prune(now_s)
        return len(packs) == PACKS_A_TURN or pruned

    def stored_bytes(self) -> int:
        """Returns what rows and inputs take, about."""
        total = sa.func.sum(PACKS.c.row_bytes + PACKS.c.input_bytes)
        return int(self._database.rows(sa.select(total))[0][0] or 0)

    def _due(self, now_s: float) -> Sequence[Pack]:
        """Returns the packs to remove now: the oldest, what is held last."""
        plain, held = self._oldest(held=False), self._oldest(held=True)
        due = [pack for pack in plain if pack.received < now_s - self._limits.max_age_s]
        due += [pack for pack in held if pack.received < now_s - self._limits.held_age_s]
        excess = self.stored_bytes() - self._limits.max_bytes
        excess -= sum(pack.row_bytes + pack.input_bytes for pack in due)
        for pack in [*plain, *held]:
            if excess <= 0:
                break
            if pack not in due:
                due.append(pack)
                excess -= pack.row_bytes + pack.input_bytes
        return due[:PACKS_A_TURN]

    def _oldest(self, *, held: bool) -> Sequence[Pack]:
        columns = [column for column in PACKS.c if column is not PACKS.c.data]
        query = sa.select(*columns).where(PACKS.c.held.is_(held))
        return self._database.rows(query.order_by(PACKS.c.number).limit(PACKS_A_TURN))

    def _remove(self, pack: Pack) -> None:
        """Removes a pack with all its samples, and their labels."""
        with self._database.writing() as (connection, _):
            own = sa.select(SAMPLES.c.number).where(*_of(pack))
            connection.execute(sa.delete(LABELS).where(LABELS.c.number.in_(own)))
            connection.execute(sa.delete(SAMPLES).where(*_of(pack)))
            connection.execute(sa.delete(PACKS).where(PACKS.c.number == pack.number))
        self._remove_file(pack)

    def _retire(self, pack: Pack) -> None:
        """Removes a pack; what is held of it moves to a pack of its own."""
        held = self._held(pack)
        data = self._of_held(pack, held)
        with self._database.writing(1) as (connection, number):
            if list(connection.execute(_select_held(pack))) != held:
                return  # somebody has labelled one meanwhile: at the next turn
            connection.execute(sa.delete(SAMPLES).where(*_of(pack), SAMPLES.c.held.is_(False)))
            if held:
                connection.execute(PACKS.insert(), _held_row(pack, number, held, data))
                connection.execute(_MOVE, _moves(held, number))
            connection.execute(sa.delete(PACKS).where(PACKS.c.number == pack.number))
        self._remove_file(pack)

    def _held(self, pack: Pack) -> list[AnyRow]:
        return list(self._database.rows(_select_held(pack)))

    def _of_held(self, pack: Pack, held: Sequence[AnyRow]) -> bytes | None:
        """Returns the inputs of what is held, as a pack."""
        places = [row.place for row in held if row.place is not None]
        if not places:
            return None
        if pack.file is None:
            query = sa.select(PACKS.c.data).where(PACKS.c.number == pack.number)
            data = self._database.rows(query)[0].data
        else:
            span = Span(pack.file, pack.offset, pack.offset + pack.input_bytes)
            (data,) = self._files.read([span])
        kind = kind_of(pack.dtype, pack.shape)
        inputs = unpress(kind, pack.inputs, data)
        return press(kind, [inputs[place].tobytes() for place in places])

    def _remove_file(self, pack: Pack) -> None:
        """Deletes the file of a pack that is gone, if no other pack is in it."""
        if pack.file is None:
            return
        others = sa.select(PACKS.c.number).where(PACKS.c.file == pack.file).limit(1)
        if not self._database.rows(others):
            self._files.remove([pack.file])

    def _prune(self, now_s: float) -> bool:
        """Removes old counts, names of old messages, and labels that waited in vain."""
        waiting_s = now_s - self._limits.waiting_age_s
        due = (
            (COUNTS, COUNTS.c.received < now_s - self._limits.max_age_s),
            (BATCHES, BATCHES.c.received < now_s - BATCH_AGE_S),
            (LABELS, sa.and_(LABELS.c.number.is_(None), LABELS.c.received < waiting_s)),
        )
        # Each of them has its turn, whatever the others still have to do.
        pruned = [self._prune_table(table, condition) for table, condition in due]
        return True in pruned

    def _prune_table(self, table: sa.Table, condition: sa.ColumnElement[bool]) -> bool:
        keys = list(table.primary_key.columns)
        query = sa.select(*keys).where(condition).order_by(table.c.received).limit(ROWS_A_TURN)
        found = [tuple(row) for row in self._database.rows(query)]
        if found:
            with self._database.writing() as (connection, _):
                for part in in_parts(found):
                    connection.execute(sa.delete(table).where(sa.tuple_(*keys).in_(part)))
        return len(found) == ROWS_A_TURN


_MOVE = (
    sa.update(SAMPLES)
    .where(SAMPLES.c.number == sa.bindparam("of"))
    .values(pack=sa.bindparam("to"), place=sa.bindparam("there"))
)


def _of(pack: Pack) -> tuple[sa.ColumnElement[bool], ...]:
    """Its samples: their numbers lie together, so that no index of packs is needed."""
    return (SAMPLES.c.number.between(pack.first, pack.last), SAMPLES.c.pack == pack.number)


def _select_held(pack: Pack) -> Query:
    columns = SAMPLES.c
    query = sa.select(columns.number, columns.place).where(*_of(pack), columns.held.is_(True))
    return query.order_by(columns.number)


def _moves(held: Sequence[AnyRow], number: int) -> list[dict[str, int | None]]:
    moves: list[dict[str, int | None]] = []
    there = 0
    for row in held:
        moves.append(
            {"of": row.number, "to": number, "there": None if row.place is None else there}
        )
        there += row.place is not None
    return moves


def _held_row(
    pack: Pack, number: int, held: Sequence[AnyRow], data: bytes | None
) -> dict[str, Any]:
    rows = pack.last - pack.first + 1
    return {
        "number": number,
        "received": pack.received,
        "pipeline": pack.pipeline,
        "held": True,
        "first": held[0].number,
        "last": held[-1].number,
        "row_bytes": pack.row_bytes * len(held) // rows,
        "input_bytes": 0 if data is None else len(data),
        "dtype": pack.dtype,
        "shape": pack.shape,
        "inputs": sum(row.place is not None for row in held),
        "file": None,
        "offset": None,
        "data": data,
    }
