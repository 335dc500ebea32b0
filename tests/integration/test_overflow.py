"""More samples than a node has room for: refused, in place of older ones, or left to the broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.hierarchy import (
    SITE,
    Hierarchy,
    Json,
    Observer,
    drops,
    eventually,
    info_topic,
    metric,
    publish_release,
    samples_topic,
)
from tests.integration.models import SHAPE, TIER1_TURN, sure

pytestmark = pytest.mark.usefixtures("require_mosquitto")

CHANNEL = "meter-tier1"
QUEUE_SIZE = 10


@dataclass(frozen=True)
class Waiting:
    """A node whose queue fills, because its model has not come yet."""

    hierarchy: Hierarchy
    observer: Observer
    metrics_url: str

    def fill(self, size: int) -> list[str]:
        """Sends samples; returns their ids."""
        identities = [self.observer.new_id() for _ in range(size)]
        payloads = [json.dumps({"id": one, "features": sure(0)}).encode() for one in identities]
        self.observer.publish_many([(samples_topic("cam-1"), payload) for payload in payloads])
        return identities

    def errors(self) -> list[Json]:
        """What senders were told."""
        return [message.json for message in self.observer.seen("/errors/")]

    def bring_the_model(self) -> None:
        """Publishes the release that the node waits for."""
        publish_release(self.observer, self.hierarchy.key.release(CHANNEL, 1, TIER1_TURN), SITE)

    def assert_all_answered_once(self, identities: list[str]) -> None:
        """These samples and no others are answered, in their order, once each."""
        self.observer.all_predicted(identities)
        last = self.observer.ask(sure(1))["id"]  # what comes twice has come before this
        answered = [answer["id"] for answer in self.observer.predictions()]
        assert answered == [*identities, last]


@contextmanager
def waiting_node(folder: Path, overflow: str, protocol: str = "3.1.1") -> Iterator[Waiting]:
    """Starts a node that takes ten samples before it has a model."""
    with Hierarchy(folder, "mosquitto") as hierarchy:
        pipeline = {
            "input": {"shape": list(SHAPE)},
            "releases": hierarchy.releases(CHANNEL),
            "batching": {"queue_size": QUEUE_SIZE, "overflow": overflow},
        }
        config = {
            "broker": {"url": hierarchy.broker.url, "protocol": protocol},
            "pipelines": {"meter": pipeline},
        }
        node = hierarchy.start("tier1", "edge-1", config)
        with hierarchy.observer() as observer:
            info = observer.until(lambda: observer.latest(info_topic("edge-1")), "its info")
            yield Waiting(hierarchy, observer, info["metrics_url"])
        assert node.stop() == 0


@pytest.mark.parametrize(
    ("overflow", "reason", "kept"),
    [
        ("reject", "queue_full", slice(0, QUEUE_SIZE)),
        ("drop_oldest", "dropped_oldest", slice(-QUEUE_SIZE, None)),
    ],
    ids=["reject", "drop_oldest"],
)
def test_sample_without_room_is_refused_named_and_counted(
    tmp_path: Path, overflow: str, reason: str, kept: slice
) -> None:
    with waiting_node(tmp_path, overflow) as waiting:
        identities = waiting.fill(3 * QUEUE_SIZE)
        refused = [one for one in identities if one not in identities[kept]]
        waiting.observer.until(lambda: len(waiting.errors()) == len(refused), "word on each")
        assert [error["id"] for error in waiting.errors()] == refused
        assert drops(waiting.metrics_url) == {reason: len(refused)}
        waiting.bring_the_model()
        waiting.assert_all_answered_once(identities[kept])
        assert drops(waiting.metrics_url) == {reason: len(refused)}


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_blocking_node_leaves_what_it_has_no_room_for_to_the_broker(
    tmp_path: Path, protocol: str
) -> None:
    # The broker would have a thousand samples under way at once; only in MQTT 5 a node can say
    # that it takes ten.
    with waiting_node(tmp_path, "block", protocol) as waiting:
        identities = waiting.fill(6 * QUEUE_SIZE)
        left = 5 * QUEUE_SIZE if protocol == "3.1.1" else 0
        eventually(
            lambda: metric(waiting.metrics_url, "edge_deferrals_total") == left, "the deferrals"
        )
        waiting.bring_the_model()
        waiting.assert_all_answered_once(identities)
        assert not waiting.errors()
        assert not drops(waiting.metrics_url)
