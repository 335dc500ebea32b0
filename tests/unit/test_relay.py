"""A gateway hands down what is signed, whole and newer, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from shared.metrics import NodeMetrics
from shared.releases.blob_server import BlobServer
from shared.releases.blobs import BlobStore, chunked
from shared.releases.clearance import Clearance
from shared.releases.manifest import Manifest, sign_manifest
from shared.topics import Topics
from tests.builders import CHANNEL, CHUNK_BYTES, Trusted, diagonal_onnx, file_of, manifest
from tests.fakes import FakeBroker, FakeLink
from tier2.relay import ChannelRelay
from tier2.shelf import Shelf

UP = Topics("escalon", "cloud")
DOWN = Topics("escalon", "site-a")


def model_of(seq: int) -> bytes:
    return diagonal_onnx(float(seq))


def release(seq: int, **changes: Any) -> Manifest:
    return manifest(model_of(seq), gain=float(seq), **{"seq": seq, "version": str(seq), **changes})


class Rig:
    """A relay between two brokers in memory."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey) -> None:
        self.key = key
        self.cloud, self.site = FakeBroker(), FakeBroker()
        self.up, self.down = FakeLink(self.cloud), FakeLink(self.site)
        self.metrics = NodeMetrics(CollectorRegistry())
        self.folder = folder
        server = BlobServer(self.down, DOWN, self.metrics.drops)
        self.shelf = Shelf(server, Clearance(self.down, DOWN))
        self.relay = ChannelRelay(
            channel=CHANNEL,
            folder=folder,
            trusts=Trusted(key),
            up=(self.up, UP),
            down=(self.down, DOWN),
            metrics=self.metrics,
            shelf=self.shelf,
        )
        self.relay.start()
        self.relay.on_site_connected(0.0)

    def publish(self, described: Manifest, *, chunks: int | None = None) -> None:
        for index, part in enumerate(chunked(model_of(described.seq), CHUNK_BYTES)[:chunks]):
            self.cloud.publish(UP.blob(file_of(described).sha256, index), part, retain=True)
        self.cloud.publish(UP.releases(CHANNEL), sign_manifest(described, [self.key]), retain=True)

    def run(self, now_s: float = 0.0) -> None:
        """Takes turns until both brokers are quiet."""
        idle_turns = 0
        while idle_turns < 2:  # what is subscribed in one turn comes in the next
            before = len(self.site.published)
            messages = self.up.receive()
            for message in messages:
                chunk = UP.blob_chunk(message.topic)
                if chunk is not None:
                    self.relay.on_chunk(*chunk, message.payload, now_s)
                else:
                    self.relay.on_manifest(message.payload, now_s)
            back = self.down.receive()
            for message in back:
                published = DOWN.blob_chunk(message.topic)
                if published is not None:
                    self.relay.on_read_back(*published, message.payload, now_s)
            self.relay.poll(now_s)
            self.shelf.poll()
            is_busy = messages or back or len(self.site.published) > before
            idle_turns = 0 if is_busy else idle_turns + 1

    @property
    def handed_down(self) -> list[bytes]:
        return self.site.payloads(DOWN.releases(CHANNEL))

    @property
    def refused(self) -> float:
        labels = {"reason": "release_refused"}
        return self.metrics.registry.get_sample_value("edge_drops_total", labels) or 0.0


@pytest.fixture
def make(tmp_path: Path, release_key: Ed25519PrivateKey) -> Callable[[], Rig]:
    """Makes rigs on one folder; a second one is the next life of the first."""
    return lambda: Rig(tmp_path / "relay", release_key)


@pytest.fixture
def rig(make: Callable[[], Rig]) -> Rig:
    return make()


def test_a_release_goes_down_as_it_came_chunks_first(rig: Rig) -> None:
    rig.publish(release(1))
    rig.run()
    assert rig.handed_down == [sign_manifest(release(1), [rig.key])]
    sent = [message.payload for message in rig.site.published]
    assert sent[:-1] == chunked(model_of(1), CHUNK_BYTES)
    assert all(message.retain for message in rig.site.published)


def test_nothing_goes_down_before_the_whole_artefact_is_here(rig: Rig) -> None:
    rig.publish(release(1), chunks=2)
    rig.run()
    assert rig.site.published == []
    rig.publish(release(1))
    rig.run()
    assert len(rig.handed_down) == 1


@pytest.mark.parametrize("kind", ["another-key", "flipped", "garbage", "another-channel"])
def test_what_is_not_rightly_signed_for_this_channel_goes_no_further(rig: Rig, kind: str) -> None:
    payloads = {
        "another-key": sign_manifest(release(2), [Ed25519PrivateKey.generate()]),
        "flipped": sign_manifest(release(2), [rig.key])[:-1] + b" ",
        "garbage": b"unsigned",
        "another-channel": sign_manifest(release(2, channel="other"), [rig.key]),
    }
    rig.publish(release(1))
    rig.run()
    rig.cloud.publish(UP.releases(CHANNEL), payloads[kind], retain=True)
    rig.run()
    assert len(rig.handed_down) == 1
    assert rig.refused == 1


def test_wrong_chunks_never_reach_the_site(rig: Rig) -> None:
    described = release(1)
    rig.publish(described)
    rig.cloud.publish(UP.blob(file_of(described).sha256, 1), b"other bytes", retain=True)
    rig.up.receive()
    rig.relay.on_manifest(sign_manifest(described, [rig.key]), 0.0)
    rig.run()
    assert rig.site.published == []


def test_an_emptied_manifest_changes_nothing(rig: Rig) -> None:
    rig.publish(release(1))
    rig.run()
    rig.relay.on_manifest(b"", 0.0)
    rig.run()
    assert len(rig.handed_down) == 1
    assert rig.refused == 0


@pytest.mark.parametrize("seq", [1, 2])
def test_a_release_that_is_not_newer_is_ignored(rig: Rig, seq: int) -> None:
    rig.publish(release(2))
    rig.run()
    rig.publish(release(seq, version="replayed"))
    rig.run()
    assert rig.handed_down == [sign_manifest(release(2), [rig.key])]


def test_a_newer_release_takes_the_place_of_one_in_mid_fetch(rig: Rig) -> None:
    rig.publish(release(1), chunks=1)
    rig.run()
    rig.publish(release(2))
    rig.run()
    assert rig.handed_down == [sign_manifest(release(2), [rig.key])]
    assert not any(file_of(release(1)).sha256 in topic for topic in rig.up.subscriptions)


def test_a_site_broker_that_forgot_everything_gets_everything_again(rig: Rig) -> None:
    rig.publish(release(1))
    rig.run()
    chunks = set(rig.site.retained)
    rig.site.forget()
    rig.down.disconnect()
    rig.down.connect()
    rig.relay.on_site_connected(0.0)
    rig.run()
    assert set(rig.site.retained) == chunks


def test_after_a_restart_it_hands_down_again_without_the_cloud(make: Callable[[], Rig]) -> None:
    first = make()
    first.publish(release(1))
    first.run()
    again = make()
    again.up.disconnect()
    again.run()
    assert again.handed_down == [sign_manifest(release(1), [again.key])]


def test_after_a_restart_an_older_release_is_still_ignored(make: Callable[[], Rig]) -> None:
    first = make()
    first.publish(release(2))
    first.run()
    again = make()
    again.publish(release(1))
    again.run()
    assert again.handed_down == [sign_manifest(release(2), [again.key])]


def test_a_release_that_comes_while_the_site_is_away_goes_down_when_it_is_back(rig: Rig) -> None:
    rig.down.disconnect()
    rig.publish(release(1))
    rig.run()
    assert rig.site.published == []
    rig.down.connect()
    rig.relay.on_site_connected(0.0)
    rig.run()
    assert rig.handed_down == [sign_manifest(release(1), [rig.key])]


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_an_artefact_that_the_disk_lost_kills_nothing_and_no_wrong_bytes_go_down(
    make: Callable[[], Rig], damage: str
) -> None:
    first = make()
    first.publish(release(1))
    first.run()
    path = first.folder / CHANNEL / "blobs" / file_of(release(1)).sha256
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(bytes(path.stat().st_size))
    again = make()
    again.run()
    assert set(again.site.retained.values()) <= {
        *chunked(model_of(1), CHUNK_BYTES), sign_manifest(release(1), [again.key]),
    }  # fmt: skip


# What is retained on the site


def chunks_of(rig: Rig, described: Manifest) -> set[str]:
    """Returns the topics on which the site's broker has chunks of a release."""
    digest = file_of(described).sha256
    return {topic for topic in rig.site.retained if digest in topic}


def test_the_release_before_may_still_be_fetched_and_the_one_before_that_goes_off_the_broker(
    rig: Rig,
) -> None:
    for seq in (1, 2, 3):
        rig.publish(release(seq))
        rig.run()
    assert len(chunks_of(rig, release(3))) == len(file_of(release(3)).chunks)
    assert len(chunks_of(rig, release(2))) == len(file_of(release(2)).chunks)
    assert chunks_of(rig, release(1)) == set()


def test_a_rollback_to_what_had_gone_off_the_broker_brings_it_back(rig: Rig) -> None:
    for seq in (1, 2, 3):
        rig.publish(release(seq))
        rig.run()
    data = model_of(1)
    for index, part in enumerate(chunked(data, CHUNK_BYTES)):
        rig.cloud.publish(UP.blob(file_of(release(1)).sha256, index), part, retain=True)
    again = sign_manifest(manifest(data, seq=4, version="1"), [rig.key])
    rig.cloud.publish(UP.releases(CHANNEL), again, retain=True)
    rig.run()
    assert rig.handed_down[-1] == again
    assert len(chunks_of(rig, release(1))) == len(file_of(release(1)).chunks)


def test_a_file_that_another_channel_holds_stays(rig: Rig) -> None:
    blobs = BlobStore(rig.folder / "other")
    rig.publish(release(1))
    rig.run()
    rig.shelf.hold("other", [file_of(release(1))], blobs)
    for seq in (2, 3):
        rig.publish(release(seq))
        rig.run()
    assert len(chunks_of(rig, release(1))) == len(file_of(release(1)).chunks)
    rig.shelf.hold("other", [], blobs)
    rig.run()
    assert chunks_of(rig, release(1)) == set()
