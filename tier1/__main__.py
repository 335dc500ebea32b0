"""``python -m tier1 FILE``: runs a tier-1 node."""

from __future__ import annotations

import sys

import numpy as np
from prometheus_client import CollectorRegistry

from shared.entry import main
from shared.metrics import NodeMetrics, serve_metrics
from shared.presence import Presence
from shared.runtime import Loop, open_link
from shared.waker import Waker
from tier1.config import Tier1Config
from tier1.node import Tier1Node


def run(config: Tier1Config) -> None:
    """Runs the node until it is told to stop.

    Raises:
        EscalonError: it cannot start.
    """
    metrics = NodeMetrics(CollectorRegistry())
    presence = Presence(config, config.role, serve_metrics(config.metrics, metrics.registry))
    persistent = any(pipeline.delivery == "at_least_once" for pipeline in config.pipelines.values())
    link = open_link(config, config.broker, config.role, persistent=persistent)
    waker = Waker()
    node = Tier1Node(config, link, metrics, presence, rng=np.random.default_rng(), wake=waker.wake)
    node.start()
    Loop(node, metrics.drops, waker).run()


if __name__ == "__main__":
    sys.exit(main("tier1", Tier1Config, run))
