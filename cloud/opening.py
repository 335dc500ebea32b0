"""Makes the store that a cloud's configuration names, and what stores telemetry in it."""

from __future__ import annotations

import random

from cloud.config import CloudConfig
from cloud.ingestion import Ingestion
from cloud.store import TelemetryStore
from cloud.telemetry_shares import TelemetryShares
from shared.durable import disk_trouble
from shared.metrics import CloudMetrics
from shared.mqtt.link import Link


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


def make_ingestion(
    config: CloudConfig, link: Link, store: TelemetryStore, metrics: CloudMetrics
) -> Ingestion:
    """Returns what stores the telemetry that is this process's.

    Args:
        config: the node.
        link: the cloud's broker.
        store: where it goes.
        metrics: what is counted.
    """
    rng = random.Random()  # noqa: S311 - a nonce, not a secret
    shares = TelemetryShares(config.topics, config.node, config.group, link, rng)
    return Ingestion(prefix=config.prefix, link=link, store=store, shares=shares, metrics=metrics)
