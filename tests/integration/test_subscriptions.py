"""A session goes on with what is configured now, and with nothing that was configured before."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.hierarchy import Hierarchy, Node, Observer, samples_topic
from tests.integration.models import sure

pytestmark = pytest.mark.usefixtures("require_mosquitto")


class Place:
    """A tier-1 node, whose configuration changes from life to life."""

    def __init__(self, hierarchy: Hierarchy, observer: Observer, protocol: str) -> None:
        self.hierarchy = hierarchy
        self.observer = observer
        self._broker = {"url": hierarchy.broker.url, "protocol": protocol}

    def start(self, **pipeline: Any) -> Node:
        pipelines = {"meter": self.hierarchy.tier1_pipeline(**pipeline)}
        config = {"broker": self._broker, "pipelines": pipelines}
        return self.hierarchy.start("tier1", "edge-1", config)

    def publish(self, topic: str) -> str:
        """Sends a sample without an id; its timestamp is what its answers have in common."""
        stamp = f"{topic} {self.observer.new_id()}"
        self.observer.publish(topic, json.dumps({"timestamp": stamp, "features": sure(0)}).encode())
        return stamp

    def answered(self) -> Counter[str]:
        return Counter(answer["timestamp"] for answer in self.observer.predictions())


@pytest.fixture(params=["3.1.1", "5"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    with Hierarchy(tmp_path, "mosquitto") as hierarchy, hierarchy.observer() as observer:
        yield Place(hierarchy, observer, request.param)


def test_after_a_change_of_its_sensors_each_sample_is_answered_once(place: Place) -> None:
    assert place.start().stop() == 0
    place.start(sensors=["cam-1", "cam-2"])
    stamps = [place.publish(samples_topic(f"cam-{1 + number % 2}")) for number in range(20)]
    place.observer.ask(sure(1))  # what is answered twice is so before this
    assert place.answered() & Counter(stamps) == Counter(stamps)
    assert [stamp for stamp in stamps if place.answered()[stamp] > 1] == []


def test_after_a_change_of_its_topic_nothing_comes_on_the_old_one(place: Place) -> None:
    assert place.start(topic="old/{sensor}").stop() == 0
    waiting = place.publish("old/cam-1")
    node = place.start(topic="new/{sensor}")
    late = [place.publish("old/cam-1") for _ in range(5)]
    stamp = place.publish("new/cam-1")
    place.observer.until(lambda: stamp in place.answered(), "the answer")
    assert not {*late, waiting} & set(place.answered())
    # One waited in the session from before.
    assert place.hierarchy.drops("edge-1", place.observer) == {"bad_topic": 1}
    assert node.stop() == 0
    assert place.start(topic="new/{sensor}").alive
    assert place.hierarchy.drops("edge-1", place.observer) == {}
