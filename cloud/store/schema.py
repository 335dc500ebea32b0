"""The tables of the telemetry store. One number counts samples, packs and counts alike.

Numbers are given out under a lock that is held until the commit, so that they become visible in
their order: whoever reads on behind a number misses nothing, whoever else writes meanwhile.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from shared.cascade.sizes import (
    MAX_ID_CHARACTERS,
    MAX_TIMESTAMP_CHARACTERS,
    MAX_VERSION_CHARACTERS,
)
from shared.messages import MAX_LABEL_CHARACTERS
from shared.topics import MAX_NAME

LAYOUT = 3
"""Of the tables. 1 was the single table of samples with their inputs; 2 knew neither the sum of
what is stored nor what nodes said of their certificates."""

EPOCH_BITS = 17
"""Samples whose numbers share all but these bits are an epoch. Within an epoch the index by
identity stays in the cache; over all samples at once, each insert would touch a page of its own
(docs/adr/0017-the-store.md has the figures)."""

UNSURE_MARGIN = 0.5
"""Below this difference between tier-2's two best labels a sample may go to the labelling queue."""

METADATA = sa.MetaData()

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _name(column: str) -> sa.Column[str]:
    return sa.Column(column, sa.String(MAX_NAME), nullable=False)


def _arrival() -> list[sa.Column[Any]]:
    """Returns the columns of what comes in messages: its number, when it came, whose it is."""
    return [
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("received", sa.Float, nullable=False),
        _name("pipeline"),
    ]


STATE = sa.Table(
    "store_state",
    METADATA,
    sa.Column("layout", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last_number", sa.BigInteger, nullable=False),
    # Of rows and inputs, about.
    sa.Column("stored_bytes", sa.BigInteger, nullable=False),
)

BATCHES = sa.Table(
    "batches",
    METADATA,
    sa.Column("site", sa.String(MAX_NAME), primary_key=True),
    sa.Column("sender", sa.String(MAX_NAME), primary_key=True),
    sa.Column("batch", sa.String(MAX_NAME), primary_key=True),
    sa.Column("received", sa.Float, nullable=False),
    sa.Index("batches_by_age", "received"),
)

SAMPLES = sa.Table(
    "samples",
    METADATA,
    *_arrival(),
    _name("site"),
    _name("node"),
    _name("sensor"),
    sa.Column("id", sa.String(MAX_ID_CHARACTERS), nullable=False),
    sa.Column("timestamp", sa.String(MAX_TIMESTAMP_CHARACTERS), nullable=False),
    sa.Column("identity", sa.BigInteger, nullable=False),
    sa.Column("correlation", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("audit", sa.Boolean, nullable=False),
    sa.Column("inclusion_probability", sa.Float, nullable=False),
    sa.Column("tier1_version", sa.String(MAX_VERSION_CHARACTERS), nullable=False),
    sa.Column("tier2_version", sa.String(MAX_VERSION_CHARACTERS), nullable=False),
    # How many labels the scores have; 0 where the two tiers differ.
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("margin", sa.Float, nullable=False),
    sa.Column("label", sa.String(MAX_LABEL_CHARACTERS), nullable=True),
    sa.Column("held", sa.Boolean, nullable=False),
    sa.Column("pack", sa.BigInteger, nullable=False),
    sa.Column("place", sa.Integer, nullable=True),
    sa.Column("tier1_scores", sa.LargeBinary, nullable=False),
    sa.Column("tier2_scores", sa.LargeBinary, nullable=False),
)

EPOCH: sa.ColumnElement[int] = SAMPLES.c.number.op(">>")(sa.literal_column(str(EPOCH_BITS)))
UNSURE = sa.text(f"margin < {UNSURE_MARGIN} AND label IS NULL AND place IS NOT NULL")
AUDITED = sa.text("audit")

sa.Index("samples_by_pipeline", SAMPLES.c.pipeline, SAMPLES.c.number)
sa.Index("samples_by_version", SAMPLES.c.pipeline, SAMPLES.c.tier1_version, SAMPLES.c.number)
# Without the audit as a column, SQLite takes it for no better than samples_by_pipeline.
sa.Index(
    "samples_audited",
    SAMPLES.c.pipeline,
    SAMPLES.c.audit,
    SAMPLES.c.number,
    sqlite_where=AUDITED,
    postgresql_where=AUDITED,
)
sa.Index(
    "samples_unsure",
    SAMPLES.c.pipeline,
    SAMPLES.c.margin,
    sqlite_where=UNSURE,
    postgresql_where=UNSURE,
)
sa.Index("samples_by_identity", EPOCH, SAMPLES.c.identity)
# A node counts its questions up, so that this one grows at few places.
sa.Index("samples_once", SAMPLES.c.node, SAMPLES.c.correlation, SAMPLES.c.identity, unique=True)

STAGED = sa.text("data IS NOT NULL")

PACKS = sa.Table(
    "packs",
    METADATA,
    *_arrival(),
    sa.Column("held", sa.Boolean, nullable=False),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("row_bytes", sa.BigInteger, nullable=False),
    sa.Column("input_bytes", sa.BigInteger, nullable=False),
    sa.Column("dtype", sa.String(16), nullable=True),
    sa.Column("shape", sa.String(128), nullable=True),
    sa.Column("inputs", sa.Integer, nullable=False),
    sa.Column("file", sa.String(128), nullable=True),
    sa.Column("offset", sa.BigInteger, nullable=True),
    sa.Column("data", sa.LargeBinary, nullable=True),
    sa.Index("packs_by_time", "pipeline", "received", "first"),
    sa.Index("packs_by_age", "held", "number"),
    sa.Index("packs_by_file", "file"),
    sa.Index("packs_staged", "number", sqlite_where=STAGED, postgresql_where=STAGED),
)

COUNTS = sa.Table(
    "gate_counts",
    METADATA,
    *_arrival(),
    _name("site"),
    _name("node"),
    sa.Column("model_version", sa.String(MAX_VERSION_CHARACTERS), nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),
    sa.Column("unsure", sa.BigInteger, nullable=False),
    sa.Column("certificate", sa.String(16), nullable=False),
    sa.Column("drift_alarms", sa.BigInteger, nullable=False),
    sa.Index("gate_counts_by_pipeline", "pipeline", "number"),
    sa.Index("gate_counts_by_age", "received"),
)

WAITING = sa.text("number IS NULL")

LABELS = sa.Table(
    "labels",
    METADATA,
    sa.Column("pipeline", sa.String(MAX_NAME), primary_key=True),
    sa.Column("site", sa.String(MAX_NAME), primary_key=True),
    sa.Column("sensor", sa.String(MAX_NAME), primary_key=True),
    sa.Column("id", sa.String(MAX_ID_CHARACTERS), primary_key=True),
    sa.Column("identity", sa.BigInteger, nullable=False),
    sa.Column("label", sa.String(MAX_LABEL_CHARACTERS), nullable=False),
    sa.Column("by_whom", sa.String(MAX_NAME), nullable=False),
    sa.Column("labelled", sa.Float, nullable=False),
    sa.Column("received", sa.Float, nullable=False),
    sa.Column("number", sa.BigInteger, nullable=True),
    sa.Index("labels_by_number", "number"),
    sa.Index("labels_waiting", "identity", sqlite_where=WAITING, postgresql_where=WAITING),
    sa.Index("labels_waiting_by_age", "received", sqlite_where=WAITING, postgresql_where=WAITING),
)

REQUESTS = sa.Table(
    "label_requests",
    METADATA,
    sa.Column("pipeline", sa.String(MAX_NAME), primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("place", sa.Integer, nullable=False),
)
