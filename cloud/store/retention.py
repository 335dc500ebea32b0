"""What leaves the store: the oldest first, by age and by bytes, a bounded part a turn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cloud.store.database import AnyRow, Database, in_parts
from cloud.store.files import InputFiles, Span
from cloud.store.leaving import Leaving, Pack, pack_bytes, select_held, take_out
from cloud.store.packs import LostInputsError, kind_of, press, unpress
from cloud.store.schema import BATCHES, COUNTS, LABELS, PACKS, STATE
from shared.errors import StorageError

PACKS_A_PART = 32
SAMPLES_A_PART = 4096
"""A part is one transaction: whoever adds waits for its end."""
PARTS_A_TURN = 16
ROWS_A_TURN = 2000
BATCH_AGE_S = 30 * 86_400.0
"""A site sends a message again for as long as its spool keeps it, two weeks by default."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetentionLimits:
    """What the store may hold.

    Attributes:
        max_age_s: of a sample.
        held_age_s: of one that a person has labelled.
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
        self._is_summed = False
        self._lost_inputs = 0

    @property
    def lost_inputs(self) -> int:
        """How many held samples were found without their input: it was lost, or damaged."""
        return self._lost_inputs

    def turn(self, now_s: float) -> bool:
        """Removes a bounded part of what is past a limit; returns whether there may be more.

        A pack whose file does not answer waits for the next turn; what is behind it does not.

        Args:
            now_s: seconds since 1970.

        Raises:
            StorageError: files or database do not answer.
        """
        if not self._is_summed:
            self._sum()
        trouble: StorageError | None = None
        passed = 0
        for _ in range(PARTS_A_TURN):
            due = self._due(now_s, passed)
            if not due:
                break
            for pack, error in self._remove(due):
                passed, trouble = max(passed, pack.number), error
        pruned = self._prune(now_s)
        if trouble is not None:
            raise trouble
        return bool(due) or pruned

    def stored_bytes(self) -> int:
        """Returns what rows and inputs take, about."""
        return int(self._database.rows(sa.select(STATE.c.stored_bytes))[0][0])

    def _sum(self) -> None:
        """Sums what is stored, once in a life: who adds and removes only counts on."""
        packed = sa.select(sa.func.sum(PACKS.c.row_bytes + PACKS.c.input_bytes))
        with self._database.writing() as (connection, _):
            total = int(connection.execute(packed).scalar() or 0)
            connection.execute(sa.update(STATE).values(stored_bytes=total))
        self._is_summed = True

    def _due(self, now_s: float, passed: int) -> Sequence[Pack]:
        """Returns the packs to remove now: the oldest, what is held last.

        Args:
            now_s: seconds since 1970.
            passed: packs up to this number wait, with what is not held in them; 0 for none.
        """
        plain = self._oldest(passed, held=False)
        held = self._oldest(0, held=True)
        due = [pack for pack in plain if pack.received < now_s - self._limits.max_age_s]
        due += [pack for pack in held if pack.received < now_s - self._limits.held_age_s]
        taken = {pack.number for pack in due}
        excess = self.stored_bytes() - self._limits.max_bytes - sum(map(pack_bytes, due))
        # What is held does not go while other packs only wait.
        for pack in [*plain, *(() if passed else held)]:
            if excess <= 0:
                break
            if pack.number not in taken:
                due.append(pack)
                excess -= pack_bytes(pack)
        return _part(due)

    def _oldest(self, behind: int, *, held: bool) -> Sequence[Pack]:
        columns = [column for column in PACKS.c if column is not PACKS.c.data]
        query = sa.select(*columns).where(PACKS.c.held.is_(held), PACKS.c.number > behind)
        return self._database.rows(query.order_by(PACKS.c.number).limit(PACKS_A_PART))

    def _remove(self, packs: Sequence[Pack]) -> list[tuple[Pack, StorageError]]:
        """Removes packs in one transaction; returns those that have to wait, and why."""
        leaving: list[Leaving] = []
        waiting: list[tuple[Pack, StorageError]] = []
        for pack in packs:
            try:
                leaving.append(self._leaving(pack))
            except StorageError as error:
                waiting.append((pack, error))
        with self._database.writing(len(leaving)) as (connection, first):
            gone = [
                each
                for number, each in enumerate(leaving, first)
                if take_out(connection, each, number)
            ]
        self._say_lost(gone)
        self._remove_files({each.pack.file for each in gone if each.pack.file is not None})
        return waiting

    def _leaving(self, pack: Pack) -> Leaving:
        """Reads what stays of a pack.

        Raises:
            StorageError: its file does not answer.
        """
        if pack.held:
            return Leaving(pack, (), None)
        kept = self._held(pack)
        try:
            return Leaving(pack, kept, self._of_held(pack, kept))
        except LostInputsError as error:
            return Leaving(pack, kept, None, str(error))

    def _held(self, pack: Pack) -> list[AnyRow]:
        return list(self._database.rows(select_held(pack)))

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

    def _say_lost(self, gone: Sequence[Leaving]) -> None:
        for each in gone:
            if each.loss:
                count = sum(row.place is not None for row in each.kept)
                self._lost_inputs += count
                log.error("%d samples stay without their inputs: %s", count, each.loss)

    def _remove_files(self, names: set[str]) -> None:
        """Deletes the files of packs that are gone, if no other pack is in them."""
        if not names:
            return
        others = sa.select(PACKS.c.file).where(PACKS.c.file.in_(names)).distinct()
        self._files.remove(sorted(names - {row.file for row in self._database.rows(others)}))

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


def _part(packs: Sequence[Pack]) -> Sequence[Pack]:
    """Returns the first of the packs, as many as one transaction removes; one at least."""
    samples = 0
    for place, pack in enumerate(packs[:PACKS_A_PART]):
        samples += pack.last - pack.first + 1
        if samples >= SAMPLES_A_PART:
            return packs[: place + 1]
    return packs[:PACKS_A_PART]
