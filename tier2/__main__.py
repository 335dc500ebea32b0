"""``python -m tier2 FILE``: runs a tier-2 node."""

from __future__ import annotations

import random
import sys

from prometheus_client import CollectorRegistry

from shared.config import BrokerConfig
from shared.entry import main
from shared.errors import EscalonError
from shared.metrics import NodeMetrics, serve_metrics
from shared.mqtt.link import Link
from shared.presence import Presence
from shared.runtime import Loop, open_link
from shared.waker import Waker
from shared.workers.leaving import Leaving
from shared.workers.quiet import QuietPresence
from shared.workers.worker import ALONE, Worker
from tier2.config import Tier2Config
from tier2.node import Tier2Node

UP = "-up"
LABELS = "-labels"


def run(config: Tier2Config, worker: Worker = ALONE) -> None:
    """Runs the node, or one of its workers, until it is told to stop.

    Args:
        config: the node.
        worker: which of its processes this is. One that leaves stays until the cloud has what is
            on its disk.

    Raises:
        EscalonError: it cannot start.
    """
    config = config.part(worker)
    metrics = NodeMetrics(CollectorRegistry())
    url = serve_metrics(config.metrics, metrics.registry)
    kind = Presence if worker.leads else QuietPresence
    presence = kind(config, config.role, url, metrics.conflicts)
    waker = Waker()
    node = Tier2Node(
        config,
        open_links(config, worker),
        metrics,
        presence,
        rng=random.Random(),  # noqa: S311 - a sample's draw, not a secret
        wake=waker.wake,
        worker=worker,
        labels_link=open_labels_link(config) if worker.leads else None,
    )
    node.start()
    if not worker.leaves:
        Loop(node, metrics.drops, waker).run()
        return
    leaving = Leaving(node, lambda: node.idle)
    Loop(leaving, metrics.drops, waker).run()
    if not (leaving.is_done and node.idle):
        raise EscalonError("stopped before the cloud had all of its telemetry")


def open_links(config: Tier2Config, worker: Worker) -> dict[BrokerConfig, Link]:
    """Returns a link for each broker of a node, by broker; two that are alike are one.

    Their sessions are clean: the deadline at tier-1 covers an escalation that is lost with a
    connection, telemetry waits on our disk, and releases are retained. Labels have a link of their
    own.
    """
    suffixes = {config.broker: ""}
    if config.cloud is not None:
        suffixes.setdefault(config.cloud, UP)
    for name, pipeline in config.pipelines.items():
        if pipeline.upstream is not None:
            suffixes.setdefault(config.upstream_broker(pipeline.upstream), f"-up-{name}")
    return {
        broker: open_link(
            config,
            broker,
            config.role,
            persistent=False,
            suffix=worker.client_suffix + suffix,
            has_will=worker.leads and suffix in ("", UP),
        )
        for broker, suffix in suffixes.items()
    }


def open_labels_link(config: Tier2Config) -> Link:
    """Returns the link on which labels come. The broker keeps them while this node is away."""
    return open_link(
        config, config.broker, config.role, persistent=True, suffix=LABELS, has_will=False
    )


if __name__ == "__main__":
    sys.exit(main("tier2", Tier2Config, run))
