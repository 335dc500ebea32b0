"""``python -m tier1 FILE``: runs a tier-1 node."""

from __future__ import annotations

import random
import sys

from prometheus_client import CollectorRegistry

from shared.entry import main
from shared.errors import EscalonError
from shared.metrics import NodeMetrics, serve_metrics
from shared.mqtt.sessions import remove_session
from shared.presence import Presence
from shared.runtime import Loop, open_link
from shared.waker import Waker
from shared.workers.leaving import Leaving
from shared.workers.quiet import QuietPresence
from shared.workers.session_record import SessionRecord
from shared.workers.worker import Worker
from tier1.config import Tier1Config
from tier1.node import Tier1Node

FORGET_S = 10.0


def run(config: Tier1Config, worker: Worker) -> None:
    """Runs the node, or one of its workers, until it is told to stop.

    Args:
        config: the node.
        worker: which of its processes this is.

    Raises:
        EscalonError: it cannot start.
    """
    config = config.part(worker)
    metrics = NodeMetrics(CollectorRegistry())
    url = serve_metrics(config.metrics, metrics.registry)
    kind = Presence if worker.leads else QuietPresence
    presence = kind(config, config.role, url, metrics.conflicts)
    persistent = any(pipeline.delivery == "at_least_once" for pipeline in config.pipelines.values())
    link = open_link(
        config,
        config.broker,
        config.role,
        persistent=persistent,
        suffix=worker.client_suffix,
        receive_maximum=config.receive_maximum,
    )
    waker = Waker()
    node = Tier1Node(
        config,
        link,
        metrics,
        presence,
        rng=random.Random(),  # noqa: S311 - a sample's draw, not a secret
        wake=waker.wake,
        worker=worker,
    )
    node.start()
    if not worker.leaves:
        Loop(node, metrics.drops, waker).run()
        return
    leaving = Leaving(node, lambda: node.idle)
    Loop(leaving, metrics.drops, waker).run()
    if not leaving.is_done:
        raise EscalonError("stopped before it had answered what its session holds")
    remove_session(config.broker, link.client_id, FORGET_S)
    # Only now: the other workers take it for subscribed as long as this is there.
    SessionRecord(config.state_dir, worker, config.broker.url).remove()


if __name__ == "__main__":
    sys.exit(main("tier1", Tier1Config, run))
