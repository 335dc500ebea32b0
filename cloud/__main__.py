"""``python -m cloud FILE``: runs a cloud process."""

from __future__ import annotations

import sys

from prometheus_client import CollectorRegistry

from cloud.config import CloudConfig
from cloud.ingest_node import IngestNode
from cloud.notice import NoticeFile
from cloud.opening import make_ingestion, make_store
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
    # A clean session: tier-2 keeps its telemetry until we say that it is stored.
    link = open_link(config, config.broker, config.role, persistent=False)
    store = make_store(config)
    ingestion = make_ingestion(config, link, store, metrics)
    if config.duty == "ingest":
        beside = IngestNode(link, ingestion, presence)
        beside.start()
        Loop(beside, metrics.drops).run()
        return
    # What trains takes more than 100 MiB, which a process that only stores can do without.
    from cloud.leading import make_leader  # noqa: PLC0415

    node = make_leader(
        config, link=link, store=store, ingestion=ingestion, metrics=metrics, presence=presence
    )
    with NoticeFile(config.state_dir).running():
        node.start()
        Loop(node, metrics.drops).run()


if __name__ == "__main__":
    sys.exit(main("cloud", CloudConfig, run))
