"""The trust document is followed version by version, whatever the disk does, and handed down."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import StorageError
from shared.metrics import NodeMetrics
from shared.releases import trust_store
from shared.releases.trust import found_trust, open_first, sign_trust
from shared.releases.trust_follower import LOOK_AGAIN_S, TrustFollower
from shared.releases.trust_store import TrustStore
from shared.topics import Topics
from tests.fakes import FakeBroker, FakeLink
from tier2.trust_relay import TrustRelay

TOPICS = Topics("escalon", "site-a")


class Rig:
    """A follower between a broker in memory and a folder."""

    def __init__(self, folder: Path, metrics: NodeMetrics) -> None:
        self.root = Ed25519PrivateKey.generate()
        self.first = found_trust([self.root], [self.root], 0.0)
        (folder / "trust.signed").write_bytes(self.first)
        self.hub = FakeBroker()
        self.link = FakeLink(self.hub)
        store = TrustStore(folder / "trust.signed", folder)
        self.changes = 0
        self.follower = TrustFollower(store, self.link, TOPICS, metrics, self._on_change)
        self.follower.start()

    def publish(self, version: int) -> bytes:
        trust = msgspec.structs.replace(open_first(self.first), version=version)
        envelope = sign_trust(trust, [self.root])
        self.hub.publish(TOPICS.trust(version), envelope, retain=True)
        return envelope

    def turn(self, now_s: float) -> None:
        self.follower.poll(now_s)
        while messages := self.link.receive():
            for message in messages:
                assert self.follower.on_message(message.topic, message.payload)

    def _on_change(self) -> None:
        self.changes += 1


@pytest.fixture
def rig(tmp_path: Path, metrics: NodeMetrics) -> Rig:
    return Rig(tmp_path, metrics)


def test_it_walks_through_all_versions_and_listens_to_the_next_one_alone(rig: Rig) -> None:
    for version in (2, 3, 4):
        rig.publish(version)
    rig.turn(0.0)
    assert (rig.follower.current.version, rig.changes) == (4, 3)
    assert list(rig.link.subscriptions) == [TOPICS.trust(5)]
    assert list(rig.follower.envelopes) == [1, 2, 3, 4]


def test_a_version_that_a_full_disk_refused_comes_into_force_once_there_is_room(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("no space left")

    rig.publish(2)
    with monkeypatch.context() as disk:
        disk.setattr(trust_store, "write_durably", full)
        rig.turn(0.0)
    assert rig.follower.current.version == 1
    rig.turn(LOOK_AGAIN_S)
    assert rig.follower.current.version == 2


def test_a_link_that_takes_no_version_now_takes_it_later() -> None:
    hub = FakeBroker()
    link = FakeLink(hub)
    relay = TrustRelay(link, TOPICS)
    link.full = True
    relay.hand_down({1: b"one", 2: b"two"})
    assert hub.retained == {}
    link.full = False
    relay.poll()
    assert hub.retained == {TOPICS.trust(1): b"one", TOPICS.trust(2): b"two"}
    hub.published.clear()
    relay.poll()
    assert hub.published == []
