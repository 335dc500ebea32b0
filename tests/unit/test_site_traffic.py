"""What crosses the link to the cloud for a release, however many nodes a site has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from shared.metrics import NodeMetrics
from shared.releases.blob_server import BlobServer
from shared.releases.blobs import BlobStore
from shared.releases.machine import State
from shared.releases.manifest import Manifest, sign_manifest
from shared.releases.trust import found_trust
from tests.builders import CHANNEL, file_of
from tests.fakes import FakeBroker, FakeLink, wait_until
from tests.gateway import NAME, UP, Gateway, retain_files
from tests.unit.test_relay import with_file
from tests.update_station import PROBATION_S, Station, model_of, release

SIZES = (1, 6)
"""Of a site: how many tier-1 nodes follow the channel."""


class Crossed(NamedTuple):
    """What a gateway has asked of the cloud, and got.

    Attributes:
        asked: what it subscribed to, in order.
        sent: topic and bytes of each message to the cloud.
        taken: the same of each one from there.
    """

    asked: list[str]
    sent: list[tuple[str, int]]
    taken: list[tuple[str, int]]


class Site:
    """A cloud that publishes, a gateway, and nodes that follow a channel of its site."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey, nodes: int) -> None:
        self.key = key
        self.cloud, self.hub = FakeBroker(), FakeBroker()
        folder.mkdir()
        (folder / "trust.signed").write_bytes(found_trust([key], [key], 1000.0))
        self.gateway = Gateway(folder, self.cloud, self.hub)
        self.stations = []
        for number in range(nodes):
            (folder / f"edge-{number}").mkdir()
            station = Station(folder / f"edge-{number}", key, self.hub, node=f"edge-{number}")
            self.stations.append(station)
        self._link = FakeLink(self.cloud)
        self._blobs = BlobStore(folder / "cloud")
        drops = NodeMetrics(CollectorRegistry()).drops
        self._server = BlobServer(self._link, UP, drops)

    def start(self) -> None:
        self._server.start()
        self.gateway.start()
        for station in self.stations:
            station.start()

    def publish(self, described: Manifest, data: bytes) -> None:
        """Publishes in the cloud: chunks that are retained, or a server that answers for them."""
        if file_of(described).delivery == "pull":
            self._blobs.add(data, file_of(described))
            self._server.offer(file_of(described), self._blobs)
        else:
            retain_files(self.cloud, UP, described, data)
        envelope = sign_manifest(described, [self.key])
        self.cloud.publish(UP.releases(CHANNEL), envelope, retain=True)

    def turn(self) -> None:
        self.gateway.turn()
        for message in self._link.receive():
            self._server.on_request(message.topic, message.payload)
        self._server.poll()
        for station in self.stations:
            station.turn()
            if station.state is not None:
                waits_s = {State.OFFERED: 1.0, State.PROBATION: PROBATION_S}
                station.now_s += waits_s.get(station.state[0], 0.0)

    def commit(self, seq: int) -> None:
        """Takes turns until every node has committed a release."""

        def committed() -> bool:
            self.turn()
            return {station.state for station in self.stations} == {(State.COMMITTED, seq)}

        wait_until(committed, f"every node commits seq {seq}")
        assert {station.version for station in self.stations} == {str(seq)}
        assert all(station.answers_rightly for station in self.stations)

    def crossed(self) -> Crossed:
        up = self.gateway.up
        return Crossed(list(up.subscribed), list(up.sent), list(up.taken))

    def close(self) -> None:
        self.gateway.relays.close()
        for station in self.stations:
            station.updater.close()


@pytest.fixture
def make_site(tmp_path: Path, release_key: Ed25519PrivateKey) -> Iterator[Callable[[int], Site]]:
    with ExitStack() as stack:

        def make(nodes: int) -> Site:
            site = Site(tmp_path / f"of-{nodes}", release_key, nodes)
            stack.callback(site.close)
            site.start()
            return site

        yield make


@pytest.mark.parametrize("delivery", ["retained", "pull"])
def test_a_release_crosses_the_link_to_the_cloud_once_whatever_the_number_of_nodes(
    make_site: Callable[[int], Site], delivery: str
) -> None:
    found: dict[int, Crossed] = {}
    for nodes in SIZES:
        site = make_site(nodes)
        for seq in (1, 2):
            described = with_file(release(seq), delivery=delivery)
            site.publish(described, model_of(seq))
            site.commit(seq)
        found[nodes] = site.crossed()
    few, many = (found[nodes] for nodes in SIZES)
    assert many == few
    topics = Counter(topic for topic, _ in few.taken)
    chunks = {
        UP.blob(file_of(release(1)).sha256, index)
        for index in range(len(file_of(release(1)).chunks))
    }
    assert {topics[topic] for topic in chunks} == {1}
    assert (UP.blob_requests(NAME) in {topic for topic, _ in few.sent}) == (delivery == "pull")
