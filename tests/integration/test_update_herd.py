"""Fifty nodes at one broker hear of a release in the same moment, and do not all fetch at once."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from shared.config import BrokerConfig, InputConfig, PipelineConfig, ReleasesConfig
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link, wait_for_any
from shared.releases.health import Health
from shared.releases.machine import State
from shared.releases.offers import JITTER_S
from shared.releases.place import Place
from shared.releases.record import ChannelFile
from shared.releases.trust_store import TrustStore
from shared.releases.updater import Updater
from shared.topics import Topics
from tests.integration.hierarchy import (
    PREFIX,
    SITE,
    Hierarchy,
    Observer,
    eventually,
    publish_release,
    update_topic,
)
from tests.integration.models import NEW_TURN, SHAPE

CHANNEL = "meter-tier1"
TOPICS = Topics(PREFIX, SITE)
NODES = 50
STEPS = 20
PROBATION_S = 40.0
MOST_AT_ONCE = 8
"""Of fifty nodes, within a twentieth of the jitter; without jitter it would be all of them."""


class Member:
    """One of the nodes: an updater with its own connection and its own folder."""

    def __init__(self, number: int, hierarchy: Hierarchy) -> None:
        self.name = f"edge-{number}"
        self.folder = hierarchy.folder / self.name
        trust = hierarchy.folder / "trust.signed"
        self.link = Link(
            BrokerConfig(url=hierarchy.broker.url),
            f"herd-{number}",
            persistent=False,
            will=None,
            rng=random.Random(number),
        )
        store = TrustStore(trust, self.folder)
        store.load()
        releases = ReleasesConfig(channel=CHANNEL, trust=trust, probation_s=PROBATION_S)
        self.updater = Updater(
            config=releases,
            pipeline=PipelineConfig(input=InputConfig(shape=SHAPE), releases=releases),
            place=Place(self.name, "meter", self.folder, self.link, TOPICS, threads=1),
            trusts=store,
            metrics=NodeMetrics(CollectorRegistry()),
            rng=random.Random(number),
        )
        self.updater.start()

    @property
    def state(self) -> State:
        """What its disk says."""
        record = ChannelFile.of(self.folder, CHANNEL).peek()
        return State.IDLE if record is None else record.state

    def turn(self, now_s: float) -> None:
        """One turn of the node's loop."""
        for message in self.link.receive():
            chunk = TOPICS.blob_chunk(message.topic)
            if chunk is not None:
                self.updater.on_chunk(*chunk, message.payload, now_s)
            else:
                self.updater.on_manifest(message.payload, now_s)
        self.updater.poll(Health(), now_s)
        self.link.flush()
        self.link.tend(time.monotonic())


class Herd:
    """All of them, in one process and on one clock that the test turns."""

    def __init__(self, hierarchy: Hierarchy, observer: Observer) -> None:
        self.members = [Member(number, hierarchy) for number in range(NODES)]
        self.observer = observer
        self.now_s = 1000.0

    def turn(self) -> None:
        wait_for_any([member.link for member in self.members], 0.01)
        for member in self.members:
            member.turn(self.now_s)

    def until(self, states: set[State], what: str) -> None:
        """Takes turns until each node is in one of these states."""

        def there() -> bool:
            self.turn()
            return {member.state for member in self.members} <= states

        eventually(there, what)

    def offered(self) -> set[str]:
        """Returns the nodes that have not begun to fetch."""
        return {member.name for member in self.members if member.state is State.OFFERED}

    def committed(self) -> set[str]:
        """Returns the nodes that have reported their commit."""
        reports = {each.name: update_topic(each.name, CHANNEL) for each in self.members}
        latest = {name: self.observer.latest(topic) for name, topic in reports.items()}
        return {name for name, each in latest.items() if each and each["state"] == "COMMITTED"}

    def close(self) -> None:
        for member in self.members:
            member.updater.close()
            member.link.close()


@pytest.fixture
def herd(require_mosquitto: None, tmp_path: Path) -> Iterator[Herd]:
    with ExitStack() as stack:
        hierarchy = stack.enter_context(Hierarchy(tmp_path, "mosquitto"))
        observer = stack.enter_context(hierarchy.observer())
        herd = Herd(hierarchy, observer)
        stack.callback(herd.close)

        def connected() -> bool:
            herd.turn()
            return all(member.link.connected for member in herd.members)

        eventually(connected, "fifty connections")
        for member in herd.members:
            member.updater.on_connected(herd.now_s)
        publish_release(observer, hierarchy.key.release(CHANNEL, 1, NEW_TURN), SITE)
        yield herd


def test_of_fifty_nodes_that_hear_at_once_few_begin_to_fetch_in_one_moment_and_all_commit(
    herd: Herd,
) -> None:
    herd.until({State.OFFERED}, "fifty offers")
    waiting = [herd.offered()]
    for _ in range(STEPS):
        herd.now_s += JITTER_S / STEPS
        # Those that begin go on to their probation: so few smoke tests run at a time.
        herd.until({State.OFFERED, State.PROBATION}, "what has begun is in place")
        waiting.append(herd.offered())
    begun = [len(before - after) for before, after in itertools.pairwise(waiting)]
    assert sum(begun) == NODES
    assert max(begun) <= MOST_AT_ONCE
    herd.now_s += PROBATION_S
    herd.until({State.COMMITTED}, "fifty commits")
    everyone = {member.name for member in herd.members}
    eventually(lambda: herd.committed() == everyone, "fifty reports")
