"""A store, and what sites send it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa

from cloud.store import Arrived, RetentionLimits, SiteLabel, Stored, TelemetryStore, Traffic
from cloud.store.store import UNLIMITED
from shared.messages import GateCount, SampleLabel, Telemetry, TelemetryRecord, Tensor
from tests.builders import LABELS, SHAPE, record

SITE = "plant"
NOON_S = 1_764_072_000.0
"""Of a day."""


class StoreDesk:
    """One store, which may be opened several times, as by several processes."""

    def __init__(self, url: str, inputs: str, limits: RetentionLimits = UNLIMITED) -> None:
        self.url = url
        self.inputs_url = inputs
        self._open: list[TelemetryStore] = []
        self.store = self.open(limits)
        self._batches = 0

    def open(self, limits: RetentionLimits = UNLIMITED) -> TelemetryStore:
        store = TelemetryStore(
            self.url, self.inputs_url, classes={"meter": LABELS, "gauge": LABELS}, limits=limits
        )
        store.open()
        self._open.append(store)
        return store

    def close(self) -> None:
        for store in self._open:
            store.close()

    def send(
        self,
        *records: TelemetryRecord,
        batch: str | None = None,
        now_s: float = NOON_S,
        site: str = SITE,
        counts: Sequence[GateCount] = (),
        labels: Sequence[SampleLabel] = (),
        store: TelemetryStore | None = None,
    ) -> Stored:
        """Has a message of telemetry have come."""
        message = self.message(*records, batch=batch, counts=counts, labels=labels)
        return (store or self.store).add([Arrived(site, message)], now_s)

    def message(
        self,
        *records: TelemetryRecord,
        batch: str | None = None,
        counts: Sequence[GateCount] = (),
        labels: Sequence[SampleLabel] = (),
    ) -> Telemetry:
        self._batches += 1
        name = batch or f"batch-{self._batches}"
        return Telemetry(2, "hub", name, records, tuple(counts), tuple(labels))

    def traffic(self, pipeline: str = "meter", **wanted: Any) -> Traffic:
        return self.store.traffic(pipeline, **{"limit": 100_000, **wanted})

    def inputs(self, **wanted: Any) -> list[float]:
        """Returns the first numbers of all inputs."""
        found = self.traffic(**wanted)
        rows = self.store.inputs(found.number[found.has_input], SHAPE)
        return [float(row[0]) for row in rows]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Reads the database beside the store."""
        engine = sa.create_engine(self.url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(sa.text(query))]
        engine.dispose()
        return found


def scored(correlation: int, tier2: Sequence[float], **changes: Any) -> TelemetryRecord:
    """Returns a record with scores of tier-2."""
    scores = Tensor.of(np.array(tier2, np.float32))
    return msgspec.structs.replace(record(correlation), tier2_probabilities=scores, **changes)


def of_sample(found: TelemetryRecord, **changes: Any) -> TelemetryRecord:
    """Returns a record with changes of what it says of its sample."""
    sample = msgspec.structs.replace(found.sample, **changes)
    return msgspec.structs.replace(found, sample=sample)


def said(sample_id: str, label: str, **changes: Any) -> SampleLabel:
    """Returns a label as a site sends it up."""
    whole = SampleLabel("meter", "cam-01", sample_id, label, "ada", NOON_S)
    return msgspec.structs.replace(whole, **changes)


def told(sample_id: str, label: str, **changes: Any) -> SiteLabel:
    """Returns a label as it is given to the store."""
    return SiteLabel(SITE, said(sample_id, label, **changes))
