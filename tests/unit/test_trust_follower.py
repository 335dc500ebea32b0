"""A trust document walks down a hierarchy version by version, ahead of what its keys signed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from shared.metrics import NodeMetrics
from shared.releases.blobs import chunked
from shared.releases.envelope import Role
from shared.releases.keys import public_hex
from shared.releases.manifest import sign_manifest
from shared.releases.trust import found_trust, open_first, sign_trust
from shared.releases.trust_follower import LOOK_AGAIN_S, TrustFollower
from shared.releases.trust_store import TrustStore
from shared.topics import Topics
from tests.builders import CHANNEL, CHUNK_BYTES, file_of
from tests.fakes import FakeBroker, FakeLink, wait_until
from tests.update_station import Station, model_of, release
from tier2.config import RelayConfig
from tier2.relays import open_relays

UP, DOWN = Topics("escalon", "cloud"), Topics("escalon", "site-a")
ROOT, OTHER, STRANGER = (Ed25519PrivateKey.generate() for _ in range(3))
KEYS = [Ed25519PrivateKey.generate() for _ in range(5)]
"""The release key of each version, from 1 on; every version is a key epoch of its own."""


def versions(count: int) -> list[bytes]:
    """Returns so many versions of a trust document, each with the next release key."""
    trust = open_first(found_trust([ROOT], [KEYS[0]], 1000.0))
    documents = [trust]
    for number in range(2, count + 1):
        role = Role(keys=(public_hex(KEYS[number - 1]),))
        trust = msgspec.structs.replace(trust, version=number, key_epoch=number, releases=role)
        documents.append(trust)
    return [sign_trust(each, [ROOT]) for each in documents]


TRUST = versions(5)


class Following:
    """A follower of the document on a broker in memory."""

    def __init__(self, folder: Path, hub: FakeBroker) -> None:
        self.installed = folder / "trust.signed"
        self.installed.write_bytes(TRUST[0])
        self.link = FakeLink(hub)
        self.metrics = NodeMetrics(CollectorRegistry())
        self.changes = 0
        self.store = TrustStore(self.installed, folder / "state")
        self.follower = TrustFollower(self.store, self.link, UP, self.metrics, self._changed)
        self.follower.start()

    def _changed(self) -> None:
        self.changes += 1

    def run(self) -> None:
        """Takes what the broker has, until nothing comes any more."""
        while messages := self.link.receive():
            for message in messages:
                assert self.follower.on_message(message.topic, message.payload)

    @property
    def version(self) -> int:
        return self.follower.current.version

    @property
    def refused(self) -> float:
        labels = {"reason": "trust_refused"}
        return self.metrics.registry.get_sample_value("edge_drops_total", labels) or 0.0


@pytest.fixture
def hub() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def following(tmp_path: Path, hub: FakeBroker) -> Following:
    return Following(tmp_path, hub)


def retain(hub: FakeBroker, numbers: Sequence[int], topics: Topics = UP) -> None:
    for number in numbers:
        hub.publish(topics.trust(number), TRUST[number - 1], retain=True)


def test_who_was_away_for_versions_walks_through_all_of_them_one_by_one(
    tmp_path: Path, hub: FakeBroker
) -> None:
    retain(hub, [1, 2, 3, 4, 5])
    following = Following(tmp_path, hub)
    following.run()
    assert following.version == 5
    assert following.changes == 4
    assert following.link.subscribed == [UP.trust(number) for number in (2, 3, 4, 5, 6)]
    assert list(following.link.subscriptions) == [UP.trust(6)]
    assert following.store.envelopes == {number + 1: each for number, each in enumerate(TRUST)}
    assert following.refused == 0


def test_a_version_that_is_missing_in_between_is_waited_for(
    following: Following, hub: FakeBroker
) -> None:
    retain(hub, [2, 4])
    following.run()
    assert following.version == 2
    retain(hub, [3])
    following.run()
    assert following.version == 4


REFUSED = {
    "strangers": sign_trust(open_first(TRUST[1]), [STRANGER]),
    "flipped": TRUST[1][:-2] + b" }",
    "one-before": TRUST[0],
    "one-too-far": TRUST[2],
    "garbage": b"trust me",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_the_next_version_is_refused_and_counted_and_the_right_one_still_taken(
    following: Following, hub: FakeBroker, kind: str
) -> None:
    hub.publish(UP.trust(2), REFUSED[kind], retain=True)
    following.run()
    assert (following.version, following.refused, following.changes) == (1, 1, 0)
    assert not (following.installed.parent / "state" / "trust" / "2.trust").exists()
    retain(hub, [2])
    following.run()
    assert (following.version, following.changes) == (2, 1)


def test_an_emptied_version_takes_nothing_back(following: Following, hub: FakeBroker) -> None:
    retain(hub, [2])
    following.run()
    for number in (1, 2, 3):
        hub.publish(UP.trust(number), b"", retain=True)
        following.follower.on_message(UP.trust(number), b"")
    assert (following.version, following.refused) == (2, 0)


@pytest.mark.parametrize("after", ["a cut link", "a while"])
def test_a_version_that_the_disk_does_not_take_is_not_in_force_until_it_does(
    following: Following, hub: FakeBroker, after: str
) -> None:
    following.follower.poll(0.0)
    folder = following.installed.parent / "state" / "trust"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_bytes(b"a file where a folder should be")
    retain(hub, [2])
    following.run()
    assert (following.version, following.refused) == (1, 1)
    folder.unlink()
    if after == "a cut link":
        following.link.cut()
        following.link.tend(0.0)
    following.follower.poll(0.0 if after == "a cut link" else LOOK_AGAIN_S)
    following.run()
    assert following.version == 2


def test_a_version_that_the_disk_had_damaged_comes_back_and_brings_those_behind_it(
    tmp_path: Path, following: Following, hub: FakeBroker
) -> None:
    retain(hub, [2, 3, 4])
    following.run()
    (tmp_path / "state" / "trust" / "2.trust").write_bytes(TRUST[1][:-1])
    hub.forget()
    again = Following(tmp_path, hub)
    assert again.version == 1
    retain(hub, [2])
    again.run()
    assert (again.version, again.changes) == (4, 1)
    assert list(again.link.subscriptions) == [UP.trust(5)]


# A gateway and what is below it


class Hierarchy:
    """A gateway between the cloud's broker and a site's, and a node on the site."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cloud, self.site = FakeBroker(), FakeBroker()
        self.up, self.down = FakeLink(self.cloud), FakeLink(self.site)
        self.metrics = NodeMetrics(CollectorRegistry())
        folder.mkdir(exist_ok=True)
        (folder / "trust.signed").write_bytes(TRUST[0])
        self.relays = open_relays(
            RelayConfig(channels=(CHANNEL,), trust=folder / "trust.signed"),
            folder / "gateway",
            up=(self.up, UP),
            down=(self.down, DOWN),
            metrics=self.metrics,
            node="full-1",
            rng=random.Random(1),
        )
        self.relays.start()
        self.relays.on_site_connected(0.0)
        (folder / "node").mkdir(exist_ok=True)
        self.node = Station(folder / "node", KEYS[0], self.site, trust=TRUST[0])
        self.node.start()

    def publish(self, number: int, epoch: int) -> None:
        """Publishes a release in the cloud, signed with the key of an epoch."""
        described = release(number, key_epoch=epoch)
        for index, part in enumerate(chunked(model_of(number), CHUNK_BYTES)):
            self.cloud.publish(UP.blob(file_of(described).sha256, index), part, retain=True)
        envelope = sign_manifest(described, [KEYS[epoch - 1]])
        self.cloud.publish(UP.releases(CHANNEL), envelope, retain=True)

    def run(self) -> None:
        """Takes turns of the gateway until both brokers are quiet."""
        # What is subscribed in one turn comes in the next; files are put together in a thread.
        wait_until(
            lambda: not self._is_news() and not self._is_news(), "the gateway has nothing to do"
        )

    def _is_news(self) -> bool:
        """Takes one turn; returns whether anything happened, or something is under way."""
        before = len(self.site.published)
        messages = [(link, each) for link in (self.up, self.down) for each in link.receive()]
        for link, message in messages:
            self.relays.take(link, message, 0.0)
        self.relays.poll(0.0)
        return bool(messages) or len(self.site.published) > before or self.relays.busy

    def handed_down(self) -> list[str]:
        """Returns the trust versions and manifests that went down, in order."""
        topics = [message.topic for message in self.site.published]
        kinds = ("/trust/", "/releases/")
        return [topic for topic in topics if any(kind in topic for kind in kinds)]


@pytest.fixture
def hierarchy(tmp_path: Path) -> Hierarchy:
    return Hierarchy(tmp_path / "hierarchy")


def test_a_gateway_hands_every_version_down_retained_and_again_at_each_connect(
    hierarchy: Hierarchy,
) -> None:
    retain(hierarchy.cloud, [1, 2, 3])
    hierarchy.run()
    expected = {DOWN.trust(number): TRUST[number - 1] for number in (1, 2, 3)}
    assert {**hierarchy.site.retained, **expected} == hierarchy.site.retained
    hierarchy.site.forget()
    hierarchy.relays.on_site_connected(0.0)
    assert hierarchy.site.retained == expected


def test_a_site_that_was_away_for_three_versions_recovers_trust_first(
    hierarchy: Hierarchy,
) -> None:
    hierarchy.publish(1, epoch=1)
    hierarchy.run()
    hierarchy.node.commit(1)
    sent = len(hierarchy.site.published)
    hierarchy.up.disconnect()
    retain(hierarchy.cloud, [1, 2, 3, 4])
    hierarchy.publish(2, epoch=4)
    hierarchy.up.connect()
    hierarchy.run()
    went = [each.topic for each in hierarchy.site.published[sent:]]
    release_topic = DOWN.releases(CHANNEL)
    assert max(went.index(DOWN.trust(number)) for number in (2, 3, 4)) < went.index(release_topic)
    hierarchy.node.commit(2)
    assert hierarchy.node.follower.current.version == 4
    assert hierarchy.node.record.key_epoch == 4


def test_a_node_that_was_away_walks_to_the_newest_version_before_it_takes_the_release(
    tmp_path: Path, hierarchy: Hierarchy
) -> None:
    hierarchy.node.die()
    retain(hierarchy.cloud, [1, 2, 3, 4])
    hierarchy.publish(2, epoch=4)
    hierarchy.run()
    folder = tmp_path / "hierarchy" / "node"
    again = Station(folder, KEYS[0], hierarchy.site, trust=TRUST[0])
    again.start()
    again.commit(2)
    assert again.record.key_epoch == 4
    again.updater.close()


def test_a_release_of_the_old_key_goes_no_further_once_the_new_epoch_is_in_force(
    hierarchy: Hierarchy,
) -> None:
    retain(hierarchy.cloud, [1, 2])
    hierarchy.run()
    hierarchy.publish(2, epoch=1)
    hierarchy.run()
    assert DOWN.releases(CHANNEL) not in hierarchy.site.retained
    labels = {"reason": "release_refused"}
    assert hierarchy.metrics.registry.get_sample_value("edge_drops_total", labels) == 1


def test_versions_that_the_link_to_the_site_had_no_room_for_go_down_as_soon_as_it_has(
    hierarchy: Hierarchy,
) -> None:
    hierarchy.down.full = True
    retain(hierarchy.cloud, [1, 2, 3])
    hierarchy.publish(2, epoch=3)
    hierarchy.run()
    assert hierarchy.handed_down() == [DOWN.trust(1)]
    hierarchy.down.full = False
    hierarchy.run()
    went = hierarchy.handed_down()
    assert went.index(DOWN.trust(3)) < went.index(DOWN.releases(CHANNEL))
    hierarchy.node.commit(2)


def test_a_document_that_is_refused_is_said_once_however_often_the_broker_delivers_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub = FakeBroker()
    following = Following(tmp_path, hub)
    hub.publish(UP.trust(2), b"no document", retain=True)
    for now_s in (0.0, LOOK_AGAIN_S, 2 * LOOK_AGAIN_S):
        following.follower.poll(now_s)
        for message in following.link.receive():
            following.follower.on_message(message.topic, message.payload)
    assert caplog.text.count("trust: version 2 refused: it is not signed") == 1
    hub.publish(UP.trust(2), sign_trust(open_first(TRUST[0]), [STRANGER]), retain=True)
    for message in following.link.receive():
        following.follower.on_message(message.topic, message.payload)
    assert caplog.text.count("trust: version 2 refused") == 2
