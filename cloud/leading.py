"""Puts the node together that trains, directs and signs: the one that leads."""

from __future__ import annotations

from collections.abc import Mapping

from cloud.channels import open_channels, open_registry
from cloud.config import CloudConfig
from cloud.course import Course
from cloud.credentials import Credentials
from cloud.director import Director
from cloud.ingestion import Ingestion
from cloud.node import CloudNode
from cloud.signer import Signer
from cloud.store import TelemetryStore
from cloud.upkeep import Upkeep
from cloud.vigil import Vigil
from shared.metrics import CloudMetrics
from shared.mqtt.link import Link
from shared.presence import Presence


def make_leader(
    config: CloudConfig,
    *,
    link: Link,
    store: TelemetryStore,
    ingestion: Ingestion,
    metrics: CloudMetrics,
    presence: Presence,
) -> CloudNode:
    """Returns the node that trains, directs and signs.

    Args:
        config: the node.
        link: the cloud's broker.
        store: the telemetry.
        ingestion: what stores it.
        metrics: what is counted.
        presence: birth and info.

    Raises:
        EscalonError: keys, trust or registry cannot be used.
    """
    key_path, trust_path = config.keys
    credentials = Credentials(trust_path, key_path, config.state_dir)
    credentials.load()
    registry = open_registry(config)
    signer = Signer(credentials.key, credentials.trust, config.release_days)
    directors = {
        name: Director(channel, signer) for name, channel in open_channels(config, registry).items()
    }
    vigils = _vigils(config, store, directors, metrics)
    courses = {
        name: Course(
            name=name,
            config=pipeline,
            chunk_bytes=config.chunk_bytes,
            folder=config.state_dir / "jobs",
            store=store,
            registry=registry,
            directors=directors,
            vigil=vigils[name],
        )
        for name, pipeline in config.pipelines.items()
    }
    return CloudNode(
        config=config,
        link=link,
        ingestion=ingestion,
        upkeep=Upkeep(store, metrics),
        registry=registry,
        directors=directors,
        courses=courses,
        metrics=metrics,
        presence=presence,
        credentials=credentials,
        signer=signer,
    )


def _vigils(
    config: CloudConfig,
    store: TelemetryStore,
    directors: Mapping[str, Director],
    metrics: CloudMetrics,
) -> dict[str, Vigil]:
    """Returns what watches each pipeline, by its name."""
    return {
        name: Vigil(
            pipeline=name,
            config=pipeline.retrain,
            store=store,
            folder=config.state_dir / "watching",
            director=directors[pipeline.tier1_channel],
            metrics=metrics,
        )
        for name, pipeline in config.pipelines.items()
    }
