"""The telemetry store of a cloud, opened to read what was recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from cloud.config import CloudConfig
from cloud.opening import make_store
from cloud.store import TelemetryStore
from shared.errors import StorageError

SQLITE = "sqlite:///"


@contextlib.contextmanager
def opened_store(config: CloudConfig) -> Iterator[TelemetryStore]:
    """Opens the store, beside the cloud node where that runs.

    Args:
        config: the cloud.

    Raises:
        StorageError: it cannot be opened, or there is none yet.
    """
    url = config.store.database_url(config.state_dir)
    if url.startswith(SQLITE) and not (file := Path(url.removeprefix(SQLITE))).exists():
        raise StorageError(
            f"nothing is recorded yet: there is no {file}. Fix: run the cloud node, and wait until "
            "telemetry has come"
        )
    store = make_store(config)
    store.open()
    try:
        yield store
    finally:
        store.close()
