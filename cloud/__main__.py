"""``python -m cloud FILE``: runs the cloud node."""

from __future__ import annotations

import random
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from cloud.channels import open_channels, open_registry
from cloud.config import CloudConfig
from cloud.course import Course
from cloud.director import Director
from cloud.ingest_node import IngestNode
from cloud.ingestion import Ingestion
from cloud.node import CloudNode
from cloud.opening import make_store
from cloud.signer import Signer
from cloud.store import TelemetryStore
from cloud.telemetry_shares import TelemetryShares
from cloud.upkeep import Upkeep
from shared.entry import main
from shared.errors import ConfigError
from shared.files import read_file
from shared.metrics import CloudMetrics, serve_metrics
from shared.mqtt.link import Link
from shared.presence import Presence
from shared.releases.keys import load_private_key, public_hex
from shared.releases.trust_store import TrustStore
from shared.runtime import Loop, open_link
from shared.workers.worker import Worker


def run(config: CloudConfig, worker: Worker) -> None:
    """Runs the node until it is told to stop.

    Args:
        config: the node.
        worker: the one process of the node: a cloud node has no workers.

    Raises:
        EscalonError: it cannot start.
    """
    metrics = CloudMetrics(CollectorRegistry())
    url = serve_metrics(config.metrics, metrics.registry)
    presence = Presence(config, config.role, url, metrics.conflicts)
    # A clean session: tier-2 keeps its telemetry until we say that it is stored.
    link = open_link(config, config.broker, config.role, persistent=False)
    store = make_store(config)
    ingestion = make_ingestion(config, link, store, metrics)
    if config.duty == "ingest":
        beside = IngestNode(link, ingestion, presence)
        beside.start()
        Loop(beside, metrics.drops).run()
    else:
        node = make_leader(
            config, link=link, store=store, ingestion=ingestion, metrics=metrics, presence=presence
        )
        node.start()
        Loop(node, metrics.drops).run()


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


if __name__ == "__main__":
    sys.exit(main("cloud", CloudConfig, run))
