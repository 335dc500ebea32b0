"""Puts the node together that trains, directs and signs: the one that leads."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.channels import open_channels, open_registry
from cloud.config import CloudConfig
from cloud.course import Course
from cloud.director import Director
from cloud.ingestion import Ingestion
from cloud.node import CloudNode
from cloud.signer import Signer
from cloud.store import TelemetryStore
from cloud.upkeep import Upkeep
from shared.errors import ConfigError
from shared.files import read_file
from shared.metrics import CloudMetrics
from shared.mqtt.link import Link
from shared.presence import Presence
from shared.releases.keys import load_private_key, public_hex
from shared.releases.trust_store import TrustStore


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
    key = load_private_key(read_file(config.keys[0]))
    trust = open_trust(config, key)
    registry = open_registry(config)
    signer = Signer(key, trust.current, config.release_days)
    directors = {
        name: Director(channel, signer) for name, channel in open_channels(config, registry).items()
    }
    courses = {
        name: Course(
            name=name,
            config=pipeline,
            chunk_bytes=config.chunk_bytes,
            folder=config.state_dir / "jobs",
            store=store,
            registry=registry,
            directors=directors,
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
        trust=trust,
    )


def open_trust(config: CloudConfig, key: Ed25519PrivateKey) -> TrustStore:
    """Returns the trust document, which must name the key that signs.

    Raises:
        ConfigError: it cannot be used, or no node would trust what this cloud signs.
        StorageError: it cannot be read.
    """
    trust = TrustStore(config.keys[1], config.state_dir)
    trust.load()
    role = trust.current.releases
    if public_hex(key) not in role.keys or role.threshold > 1:
        raise ConfigError(
            f"no node would trust {config.signing_key}: it is not among the release keys of "
            f"trust version {trust.current.version}, or more than one key must sign. "
            "Fix: name the key that `escalon keys` made with this trust file"
        )
    return trust
