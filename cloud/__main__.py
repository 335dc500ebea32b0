"""``python -m cloud FILE``: runs the cloud node."""

from __future__ import annotations

import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from cloud.channels import open_channels, open_registry
from cloud.config import CloudConfig
from cloud.course import Course
from cloud.director import Director
from cloud.node import CloudNode
from cloud.signer import Signer
from cloud.store import TelemetryStore
from shared.entry import main
from shared.errors import ConfigError
from shared.files import read_file
from shared.metrics import CloudMetrics, serve_metrics
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
    key = load_private_key(read_file(config.signing_key))
    trust = open_trust(config, key)
    registry = open_registry(config)
    signer = Signer(key, trust.current, config.release_days)
    directors = {
        name: Director(channel, signer) for name, channel in open_channels(config, registry).items()
    }
    store = TelemetryStore(_store_url(config))
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
    # A clean session: tier-2 keeps its telemetry until we say that it is stored.
    link = open_link(config, config.broker, config.role, persistent=False)
    node = CloudNode(
        config=config,
        link=link,
        store=store,
        registry=registry,
        directors=directors,
        courses=courses,
        metrics=metrics,
        presence=presence,
        trust=trust,
    )
    node.start()
    Loop(node, metrics.drops).run()


def open_trust(config: CloudConfig, key: Ed25519PrivateKey) -> TrustStore:
    """Returns the trust document, which must name the key that signs.

    Raises:
        ConfigError: it cannot be used, or no node would trust what this cloud signs.
        StorageError: it cannot be read.
    """
    trust = TrustStore(config.trust, config.state_dir)
    trust.load()
    role = trust.current.releases
    if public_hex(key) not in role.keys or role.threshold > 1:
        raise ConfigError(
            f"no node would trust {config.signing_key}: it is not among the release keys of "
            f"trust version {trust.current.version}, or more than one key must sign. "
            "Fix: name the key that `escalon keys` made with this trust file"
        )
    return trust


def _store_url(config: CloudConfig) -> str:
    if config.store != "sqlite":
        return config.store
    config.state_dir.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{config.state_dir.absolute() / 'telemetry.sqlite'}"


if __name__ == "__main__":
    sys.exit(main("cloud", CloudConfig, run))
