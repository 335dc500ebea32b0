"""A cloud's store with traffic in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cloud.config import CloudConfig
from cloud.opening import make_store
from cloud.store import Arrived, SiteLabel, TelemetryStore
from shared.config_file import ConfigFile
from shared.messages import (
    EscalatedSample,
    SampleLabel,
    Telemetry,
    TelemetryRecord,
    Tensor,
)
from tests.builders import LABELS, SHAPE
from tests.traffic import Columns

BATCH = 2000


@contextmanager
def opened(config_path: Path) -> Iterator[TelemetryStore]:
    """Opens the store that a cloud's YAML names."""
    store = make_store(ConfigFile(config_path).parse(CloudConfig, {}))
    store.open()
    yield store
    store.close()


def record(config_path: Path, columns: Columns, name: str = "a", sensor: str = "cam-01") -> None:
    """Stores what was sent, as from site ``plant`` with ids ``a-0`` and so on."""
    with opened(config_path) as store:
        for first in range(0, len(columns.label), BATCH):
            rows = range(first, min(first + BATCH, len(columns.label)))
            telemetry = Telemetry(
                1, "tier2-a", f"{sensor}-{name}-{first}",
                tuple(_record(columns, row, name, sensor) for row in rows), (),
            )  # fmt: skip
            store.add([Arrived("plant", telemetry)], time.time())
        labelled = np.flatnonzero(columns.label >= 0)
        labels = [_label(sensor, f"{name}-{row}", columns.label[row]) for row in labelled]
        store.label(labels, time.time())


def _record(columns: Columns, row: int, name: str, sensor: str) -> TelemetryRecord:
    accepted = columns.inclusion_probability[row] < 1
    sample = EscalatedSample(
        row, f"{name}-{row}", sensor, 1_700_000_000.0 + row,
        "audit" if accepted else "low_confidence", bool(columns.audit[row]),
        float(columns.inclusion_probability[row]),
    )  # fmt: skip
    return TelemetryRecord(
        sample, f"press-{sensor}", "meter", columns.tier1_version[row], columns.tier2_version[row],
        Tensor.of(columns.tier1[row]), Tensor.of(columns.tier2[row]),
        Tensor.of(np.zeros(SHAPE, np.float32)) if columns.has_input[row] else None,
    )  # fmt: skip


def _label(sensor: str, sample_id: str, label: int) -> SiteLabel:
    said = SampleLabel("meter", sensor, sample_id, LABELS[label], "ada", time.time())
    return SiteLabel("plant", said)
