"""One pack leaves the store: out with its rows; what is held moves to a pack of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from cloud.store.database import AnyRow, Query, grow
from cloud.store.schema import LABELS, PACKS, SAMPLES

Pack = AnyRow


class Leaving(NamedTuple):
    """A pack that leaves.

    Attributes:
        pack: its row.
        kept: number and place of its samples that stay.
        data: the inputs of those, as a pack; None if there are none.
        loss: why their inputs are gone; empty if they are not.
    """

    pack: Pack
    kept: Sequence[AnyRow]
    data: bytes | None
    loss: str = ""


_MOVE = (
    sa.update(SAMPLES)
    .where(SAMPLES.c.number == sa.bindparam("of"))
    .values(pack=sa.bindparam("to"), place=sa.bindparam("there"))
)


def pack_bytes(pack: Pack) -> int:
    """Returns what a pack takes, rows and inputs together, about."""
    return int(pack.row_bytes + pack.input_bytes)


def take_out(connection: sa.Connection, leaving: Leaving, number: int) -> bool:
    """Removes a pack; what is held of it moves to a pack of its own.

    Args:
        connection: of a transaction.
        leaving: the pack.
        number: of the pack that what is held moves to.

    Returns:
        Whether it is removed. If not, somebody has labelled one of its samples meanwhile.
    """
    pack, kept = leaving.pack, leaving.kept
    freed = pack_bytes(pack)
    if pack.held:
        own = sa.select(SAMPLES.c.number).where(*_of(pack))
        connection.execute(sa.delete(LABELS).where(LABELS.c.number.in_(own)))
        connection.execute(sa.delete(SAMPLES).where(*_of(pack)))
    else:
        if list(connection.execute(select_held(pack))) != list(kept):
            return False
        connection.execute(sa.delete(SAMPLES).where(*_of(pack), SAMPLES.c.held.is_(False)))
        if kept:
            row = _held_row(leaving, number)
            connection.execute(PACKS.insert(), row)
            connection.execute(_MOVE, _moves(leaving, number))
            freed -= row["row_bytes"] + row["input_bytes"]
    connection.execute(sa.delete(PACKS).where(PACKS.c.number == pack.number))
    grow(connection, -freed)
    return True


def _of(pack: Pack) -> tuple[sa.ColumnElement[bool], ...]:
    """Its samples: their numbers lie together, so that no index of packs is needed."""
    return (SAMPLES.c.number.between(pack.first, pack.last), SAMPLES.c.pack == pack.number)


def select_held(pack: Pack) -> Query:
    """Returns the query for number and place of what is held of a pack."""
    columns = SAMPLES.c
    query = sa.select(columns.number, columns.place).where(*_of(pack), columns.held.is_(True))
    return query.order_by(columns.number)


def _moves(leaving: Leaving, number: int) -> list[dict[str, int | None]]:
    moves: list[dict[str, int | None]] = []
    there = 0
    for row in leaving.kept:
        has_input = row.place is not None and leaving.data is not None
        moves.append({"of": row.number, "to": number, "there": there if has_input else None})
        there += has_input
    return moves


def _held_row(leaving: Leaving, number: int) -> dict[str, Any]:
    pack, kept, data = leaving.pack, leaving.kept, leaving.data
    rows = pack.last - pack.first + 1
    return {
        "number": number,
        "received": pack.received,
        "pipeline": pack.pipeline,
        "held": True,
        "first": kept[0].number,
        "last": kept[-1].number,
        "row_bytes": pack.row_bytes * len(kept) // rows,
        "input_bytes": 0 if data is None else len(data),
        "dtype": pack.dtype,
        "shape": pack.shape,
        "inputs": 0 if data is None else sum(row.place is not None for row in kept),
        "file": None,
        "offset": None,
        "data": data,
    }
