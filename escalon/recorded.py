"""The telemetry store of a cloud, opened beside the cloud node where that runs."""

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
def opened_store(config: CloudConfig, *, new: bool = False) -> Iterator[TelemetryStore]:
    """Opens the store.

    Args:
        config: the cloud.
        new: whether one is made where there is none.

    Raises:
        StorageError: it cannot be opened, or there is none yet.
    """
    url = config.store.database_url(config.state_dir)
    file = Path(url.removeprefix(SQLITE))
    if not new and url.startswith(SQLITE) and not file.exists():
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
