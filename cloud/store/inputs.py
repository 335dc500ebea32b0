"""Reads inputs by the numbers of their samples, pack by pack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from cloud.store.database import AnyRow, Database, in_parts
from cloud.store.files import InputFiles, Span
from cloud.store.packs import kind_of, shape_text, unpress
from cloud.store.schema import PACKS, SAMPLES
from shared.errors import StorageError
from shared.scores import Floats

PACKS_AT_ONCE = 32
"""So many packs are in memory together, compressed."""


class Where(NamedTuple):
    """Where the input of a sample is.

    Attributes:
        pack: number of the pack.
        place: its place in it.
        wanted: its place in what was asked for.
    """

    pack: int
    place: int
    wanted: int


class Inputs:
    """Reads inputs.

    Args:
        database: the store's.
        files: where packs lie that are in no row any more.
    """

    def __init__(self, database: Database, files: InputFiles) -> None:
        self._database = database
        self._files = files

    def read(self, numbers: Sequence[int], shape: tuple[int, ...]) -> Floats:
        """Returns the inputs of samples; bytes become numbers.

        Args:
            numbers: of the samples.
            shape: of one input.

        Returns:
            float32 [N, *shape].

        Raises:
            StorageError: one is not there, of another shape, or cannot be read.
        """
        found = np.empty((len(numbers), *shape), np.float32)
        for part in self.parts(numbers):
            for where, row in part:
                if row.shape != shape:
                    raise StorageError(
                        f"the input of sample {numbers[where.wanted]} has shape {row.shape}, "
                        f"not {shape}"
                    )
                found[where.wanted] = row
        return found

    def fit(self, numbers: Sequence[int], shape: tuple[int, ...]) -> list[bool]:
        """Returns which of the samples have an input of a shape in the store."""
        fitting: set[int] = set()
        for part in in_parts(numbers):
            query = (
                sa.select(SAMPLES.c.number)
                .join(PACKS, PACKS.c.number == SAMPLES.c.pack)
                .where(SAMPLES.c.number.in_(part), SAMPLES.c.place.is_not(None))
                .where(PACKS.c.shape == shape_text(shape))
            )
            fitting.update(row[0] for row in self._database.rows(query))
        return [number in fitting for number in numbers]

    def parts(self, numbers: Sequence[int]) -> Iterator[list[tuple[Where, NDArray[np.generic]]]]:
        """Yields the inputs of samples as they were sent, some packs at a time."""
        places = sorted(self._places(numbers))
        packs = [(number, list(group)) for number, group in groupby(places, lambda w: w.pack)]
        for part in in_parts(packs, PACKS_AT_ONCE):
            arrays = self._arrays([number for number, _ in part])
            yield [
                (where, arrays[number][where.place]) for number, group in part for where in group
            ]

    def _places(self, numbers: Sequence[int]) -> list[Where]:
        columns = SAMPLES.c
        found: list[Where] = []
        index = {int(number): place for place, number in enumerate(numbers)}
        for part in in_parts(list(index)):
            query = sa.select(columns.number, columns.pack, columns.place).where(
                columns.number.in_(part), columns.place.is_not(None)
            )
            found += [
                Where(pack, place, index[no]) for no, pack, place in self._database.rows(query)
            ]
        if len(found) < len(numbers):
            missing = set(index.values()) - {where.wanted for where in found}
            number = numbers[min(missing)] if missing else "twice the same"
            raise StorageError(f"the store has no input of sample {number}")
        return found

    def _arrays(self, numbers: Sequence[int]) -> dict[int, NDArray[np.generic]]:
        rows = self._database.rows(sa.select(PACKS).where(PACKS.c.number.in_(numbers)))
        filed = [row for row in rows if row.file is not None]
        spans = [Span(row.file, row.offset, row.offset + row.input_bytes) for row in filed]
        data = dict(zip([row.number for row in filed], self._files.read(spans), strict=True))
        return {row.number: self._array(row, data.get(row.number, row.data)) for row in rows}

    def _array(self, row: AnyRow, data: bytes) -> NDArray[np.generic]:
        try:
            return unpress(kind_of(row.dtype, row.shape), row.inputs, data)
        except StorageError as error:
            where = "the database" if row.file is None else f"{self._files.url}/{row.file}"
            raise type(error)(f"pack {row.number} in {where}: {error}") from error
