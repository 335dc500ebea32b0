"""The telemetry store (SQLAlchemy Core: SQLite by default, any other by its URL)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from shared.cascade.sizes import MAX_ID_CHARACTERS, MAX_VERSION_CHARACTERS
from shared.errors import PayloadError, StorageError
from shared.messages import Telemetry, TelemetryRecord
from shared.scores import Floats

log = logging.getLogger(__name__)

MAX_TRAINING_SAMPLES = 50_000
FLOAT_BYTES = 4

METADATA = sa.MetaData()

BATCHES = sa.Table(
    "telemetry_batches",
    METADATA,
    sa.Column("batch", sa.String(64), primary_key=True),
    sa.Column("sender", sa.String(64), nullable=False),
    sa.Column("received", sa.Float, nullable=False),
)

SAMPLES = sa.Table(
    "samples",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("received", sa.Float, nullable=False),
    sa.Column("pipeline", sa.String(64), nullable=False),
    sa.Column("node", sa.String(64), nullable=False),
    sa.Column("sensor", sa.String(64), nullable=False),
    sa.Column("id", sa.String(MAX_ID_CHARACTERS), nullable=False),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("audit", sa.Boolean, nullable=False),
    sa.Column("inclusion_probability", sa.Float, nullable=False),
    sa.Column("tier1_version", sa.String(MAX_VERSION_CHARACTERS), nullable=False),
    sa.Column("tier2_version", sa.String(MAX_VERSION_CHARACTERS), nullable=False),
    sa.Column("tier1_scores", sa.LargeBinary, nullable=False),
    sa.Column("tier2_scores", sa.LargeBinary, nullable=False),
    sa.Column("input", sa.LargeBinary, nullable=True),
    sa.Index("samples_by_time", "pipeline", "received"),
)


@dataclass(frozen=True)
class Stored:
    """What became of a batch.

    Attributes:
        news: False if it was stored before; then nothing is stored twice.
        samples: records stored.
        broken: records left out.
    """

    news: bool
    samples: int
    broken: int


@dataclass(frozen=True)
class TrainingSet:
    """Samples with their inputs, oldest first.

    Attributes:
        inputs: float32 [N, ...].
        tier2: tier-2's probabilities, float32 [N, labels].
        audit: bool [N].
        inclusion_probability: the chance that such a sample was sent, float64 [N], in (0, 1].
        labels: a person's, int64 [N]; -1 for none.
    """

    inputs: Floats
    tier2: Floats
    audit: NDArray[np.bool_]
    inclusion_probability: NDArray[np.float64]
    labels: NDArray[np.int64]


class TelemetryStore:
    """Keeps telemetry.

    Args:
        url: SQLAlchemy URL.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine: sa.Engine | None = None

    def open(self) -> None:
        """Connects and makes the tables where they are missing.

        Raises:
            StorageError: the database cannot be opened.
        """
        try:
            self._engine = sa.create_engine(self._url)
            METADATA.create_all(self._engine)
        except (SQLAlchemyError, ImportError) as error:
            raise StorageError(f"cannot open the store: {error}") from error

    def add(self, telemetry: Telemetry, received: float) -> Stored:
        """Stores a batch in one transaction. A record that is broken is left out, and counted.

        Args:
            telemetry: the batch.
            received: seconds since 1970.

        Raises:
            StorageError: the database does not take it.
        """
        rows = []
        for record in telemetry.records:
            try:
                rows.append(_row(record, received))
            except PayloadError as error:
                log.warning("record %s of %s: %s", record.sample.id, telemetry.sender, error)
        batch = {"batch": telemetry.batch, "sender": telemetry.sender, "received": received}
        try:
            with self._connected().begin() as connection:
                connection.execute(BATCHES.insert(), batch)
                if rows:
                    connection.execute(SAMPLES.insert(), rows)
        except IntegrityError as error:
            if not self._read(sa.select(BATCHES.c.batch).where(BATCHES.c.batch == telemetry.batch)):
                raise StorageError(f"the store does not take telemetry: {error}") from error
            return Stored(news=False, samples=0, broken=0)
        except SQLAlchemyError as error:
            raise StorageError(f"the store does not take telemetry: {error}") from error
        return Stored(news=True, samples=len(rows), broken=len(telemetry.records) - len(rows))

    def audits_since(self, pipeline: str, since: float) -> int:
        """Returns how many audited samples with inputs came since an instant.

        Raises:
            StorageError: the database does not answer.
        """
        query = (
            sa.select(sa.func.count())
            .select_from(SAMPLES)
            .where(*_usable(pipeline, since), SAMPLES.c.audit)
        )
        (row,) = self._read(query)
        return int(row[0])

    def withheld_audits_since(self, pipeline: str, since: float) -> int:
        """Returns how many audited samples came without their input since an instant.

        Raises:
            StorageError: the database does not answer.
        """
        columns = SAMPLES.c
        query = (
            sa.select(sa.func.count())
            .select_from(SAMPLES)
            .where(columns.pipeline == pipeline, columns.received >= since, columns.audit)
            .where(columns.input.is_(None))
        )
        (row,) = self._read(query)
        return int(row[0])

    def since(self, pipeline: str, since: float, shape: tuple[int, ...]) -> TrainingSet:
        """Returns what came since an instant, the latest ``MAX_TRAINING_SAMPLES`` at most.

        Args:
            pipeline: the pipeline.
            since: seconds since 1970.
            shape: of one input; samples of another are left out.

        Raises:
            StorageError: the database does not answer.
        """
        columns = (
            SAMPLES.c.input,
            SAMPLES.c.tier2_scores,
            SAMPLES.c.audit,
            SAMPLES.c.inclusion_probability,
        )
        query = (
            sa.select(*columns)
            .where(*_usable(pipeline, since))
            .order_by(SAMPLES.c.number.desc())
            .limit(MAX_TRAINING_SAMPLES)
        )
        size = FLOAT_BYTES * math.prod(shape)
        rows = [row for row in reversed(self._read(query)) if len(row.input) == size]
        # A tier-2 model with other labels may have answered before: the latest decides.
        rows = [row for row in rows if len(row.tier2_scores) == len(rows[-1].tier2_scores)]
        return TrainingSet(
            _stacked([row.input for row in rows]).reshape(-1, *shape),
            _stacked([row.tier2_scores for row in rows]),
            np.array([row.audit for row in rows], bool),
            np.array([row.inclusion_probability for row in rows], np.float64),
            np.full(len(rows), -1, np.int64),
        )

    def close(self) -> None:
        """Closes the connections."""
        if self._engine is not None:
            self._engine.dispose()

    def _read(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        try:
            with self._connected().connect() as connection:
                return connection.execute(query).all()
        except SQLAlchemyError as error:
            raise StorageError(f"the store does not answer: {error}") from error

    def _connected(self) -> sa.Engine:
        if self._engine is None:
            raise StorageError("the store is not open")
        return self._engine


def _usable(pipeline: str, since: float) -> Sequence[sa.ColumnElement[bool]]:
    columns = SAMPLES.c
    return (columns.pipeline == pipeline, columns.received >= since, columns.input.is_not(None))


def _row(record: TelemetryRecord, received: float) -> dict[str, Any]:
    sample = record.sample
    return {
        "received": received,
        "pipeline": record.pipeline,
        "node": record.node,
        "sensor": sample.sensor,
        "id": sample.id,
        "reason": sample.reason,
        "audit": sample.audit,
        "inclusion_probability": sample.inclusion_probability,
        "tier1_version": record.tier1_version,
        "tier2_version": record.tier2_version,
        "tier1_scores": _float_bytes(record.tier1_probabilities.array()),
        "tier2_scores": _float_bytes(record.tier2_probabilities.array()),
        "input": None if record.input is None else _input_bytes(record.input.array()),
    }


def _float_bytes(array: NDArray[Any]) -> bytes:
    if array.dtype != np.float32:
        raise PayloadError("bad_tensor", f"{array.dtype} where float32 is due")
    return array.tobytes()


def _input_bytes(array: NDArray[Any]) -> bytes:
    """Returns an input as it is trained on: the bytes of an image are numbers like others."""
    return _float_bytes(array.astype(np.float32) if array.dtype == np.uint8 else array)


def _stacked(rows: Sequence[bytes]) -> Floats:
    """Returns float32 [N, ...] of equally long rows."""
    columns = len(rows[0]) // FLOAT_BYTES if rows else 0
    return np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), columns)
