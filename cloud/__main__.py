"""``python -m cloud FILE``: runs the cloud node."""

from __future__ import annotations

import sys

from prometheus_client import CollectorRegistry

from cloud.channels import open_channels, open_registry
from cloud.config import CloudConfig
from cloud.course import Course
from cloud.credentials import Credentials
from cloud.director import Director
from cloud.node import CloudNode
from cloud.notice import NoticeFile
from cloud.signer import Signer
from cloud.store import TelemetryStore
from shared.entry import main
from shared.metrics import CloudMetrics, serve_metrics
from shared.presence import Presence
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
    credentials = Credentials(config.trust, config.signing_key, config.state_dir)
    credentials.load()
    registry = open_registry(config)
    signer = Signer(credentials.key, credentials.trust, config.release_days)
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
        credentials=credentials,
        signer=signer,
    )
    with NoticeFile(config.state_dir).running():
        node.start()
        Loop(node, metrics.drops).run()


def _store_url(config: CloudConfig) -> str:
    if config.store != "sqlite":
        return config.store
    config.state_dir.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{config.state_dir.absolute() / 'telemetry.sqlite'}"


if __name__ == "__main__":
    sys.exit(main("cloud", CloudConfig, run))
