"""``python -m cloud FILE``: runs the cloud node."""

from __future__ import annotations

import sys

from prometheus_client import CollectorRegistry

from cloud.config import CloudConfig
from cloud.course import Course
from cloud.node import CloudNode
from cloud.registry import Registry
from cloud.releasing import Releaser
from cloud.store import TelemetryStore
from shared.entry import main
from shared.files import read_file
from shared.metrics import CloudMetrics, serve_metrics
from shared.presence import Presence
from shared.releases.signing import key_id, load_private_key
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
    public = key.public_key()
    registry = Registry(config.state_dir / "registry", {key_id(public): public})
    releaser = Releaser(registry, key, config.chunk_bytes, config.release_days)
    store = TelemetryStore(_store_url(config))
    courses = {
        name: Course(
            name=name,
            config=pipeline,
            folder=config.state_dir / "jobs",
            store=store,
            registry=registry,
            releaser=releaser,
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
        courses=courses,
        metrics=metrics,
        presence=presence,
    )
    node.start()
    Loop(node, metrics.drops).run()


def _store_url(config: CloudConfig) -> str:
    if config.store != "sqlite":
        return config.store
    config.state_dir.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{config.state_dir.absolute() / 'telemetry.sqlite'}"


if __name__ == "__main__":
    sys.exit(main("cloud", CloudConfig, run))
