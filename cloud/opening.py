"""Makes the store that a cloud's configuration names, for the node and for the command line."""

from __future__ import annotations

from cloud.config import CloudConfig
from cloud.store import TelemetryStore
from shared.durable import disk_trouble


def make_store(config: CloudConfig) -> TelemetryStore:
    """Returns the store; it is not open yet.

    Args:
        config: the cloud.

    Raises:
        StorageError: the folder of the node cannot be made.
    """
    folder = config.state_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_trouble("make", folder, error) from error
    return TelemetryStore(
        config.store.database_url(folder),
        config.store.inputs_url(folder),
        classes=config.classes,
        limits=config.store.retention.limits,
    )
