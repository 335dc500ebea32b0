"""A node that is there before its broker, and two nodes under one name."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest

from tests.integration.hierarchy import Hierarchy, Node, eventually, metric
from tests.integration.models import TIER1_TURN, label, sure

pytestmark = pytest.mark.usefixtures("require_mosquitto")


COMPLAINT = re.compile("another client took our name|another process runs as node press-3")


def has_counted_a_conflict(node: Node) -> bool:
    """Whether its metrics tell of another process under its name."""
    return metric(node.metrics_url, "edge_conflicts_total") > 0


def names_the_other(node: Node) -> bool:
    """Whether its log says what is wrong, under which client id."""
    lines = [line for line in node.log.splitlines() if COMPLAINT.search(line)]
    return any("escalon-site-a-press-3" in line and "Fix: " in line for line in lines)


def test_node_that_is_there_before_its_broker_keeps_trying_says_so_and_works_then(
    tmp_path: Path,
) -> None:
    with Hierarchy(tmp_path, "mosquitto") as hierarchy:
        pipelines = {"pipelines": {"meter": hierarchy.tier1_pipeline()}}
        hierarchy.broker.stop()
        node = hierarchy.add("tier1", "edge-1", pipelines)
        node.start()
        url = node.metrics_url
        eventually(lambda: f"cannot reach {hierarchy.broker.url}" in node.log, "word on the broker")
        assert metric(url, "edge_ready") == 0
        hierarchy.start_brokers()
        eventually(lambda: metric(url, "edge_ready") == 1, "a node that is ready")
        with hierarchy.observer() as observer:
            assert observer.ask(sure(1))["prediction"] == label(1, TIER1_TURN)
        hierarchy.broker.stop()
        eventually(lambda: metric(url, "edge_ready") == 0, "a node that is not ready any more")
        assert node.stop() == 0
        # Said once, not at each of many attempts.
        assert node.log.count("cannot reach") <= 2


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("role", ["tier1", "tier2"])
def test_two_nodes_with_one_name_both_name_the_other_and_count_it(
    tmp_path: Path, role: str, protocol: str
) -> None:
    with Hierarchy(tmp_path, "mosquitto") as hierarchy:
        pipeline = getattr(hierarchy, f"{role}_pipeline")()
        config = {
            "node": "press-3",
            "broker": {"url": hierarchy.broker.url, "protocol": protocol},
            "pipelines": {"meter": pipeline},
        }
        twins = [hierarchy.add(role, name, config) for name in ("one", "other")]
        for twin in twins:
            twin.start()
        for twin in twins:
            eventually(partial(has_counted_a_conflict, twin), "a conflict")
            eventually(partial(names_the_other, twin), "a word on the other")
        assert [twin.stop() for twin in twins] == [0, 0]
