"""The telemetry store: rows in SQLite or PostgreSQL, inputs in files beside them."""

from cloud.store.arrivals import Arrived, SiteLabel
from cloud.store.counts import CountRow
from cloud.store.database import RowsRefusedError
from cloud.store.found import FoundSample
from cloud.store.labels import KeptLabel, LabelTally
from cloud.store.outline import Outline
from cloud.store.queue import Queued
from cloud.store.retention import RetentionLimits
from cloud.store.store import TelemetryStore
from cloud.store.telemetry import Stored
from cloud.store.traffic import InputShares, Traffic

__all__ = [
    "Arrived",
    "CountRow",
    "FoundSample",
    "InputShares",
    "KeptLabel",
    "LabelTally",
    "Outline",
    "Queued",
    "RetentionLimits",
    "RowsRefusedError",
    "SiteLabel",
    "Stored",
    "TelemetryStore",
    "Traffic",
]
