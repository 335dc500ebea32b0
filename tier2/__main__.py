"""``python -m tier2 FILE``: runs a tier-2 node."""

from __future__ import annotations

import sys

from prometheus_client import CollectorRegistry

from shared.entry import main
from shared.metrics import NodeMetrics, serve_metrics
from shared.presence import Presence
from shared.runtime import Loop, open_link
from tier2.config import Tier2Config
from tier2.node import Tier2Node


def run(config: Tier2Config) -> None:
    """Runs the node until it is told to stop.

    Raises:
        EscalonError: it cannot start.
    """
    metrics = NodeMetrics(CollectorRegistry())
    url = serve_metrics(config.metrics, metrics.registry)
    presence = Presence(config, config.role, url, metrics.conflicts)
    # Clean sessions: the deadline at tier-1 covers an escalation that is lost with a connection,
    # telemetry waits on our disk, and releases are retained.
    site = open_link(config, config.broker, config.role, persistent=False)
    cloud = site
    if config.cloud is not None:
        cloud = open_link(config, config.cloud, config.role, persistent=False, suffix="-up")
    node = Tier2Node(config, site, cloud, metrics, presence)
    node.start()
    Loop(node, metrics.drops).run()


if __name__ == "__main__":
    sys.exit(main("tier2", Tier2Config, run))
