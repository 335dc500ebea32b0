"""A gateway hands down what is signed, whole and newer, and nothing else."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from shared.errors import StorageError
from shared.metrics import NodeMetrics
from shared.releases.artefact import Artefact
from shared.releases.blob_server import BlobServer
from shared.releases.blobs import BlobStore, chunked
from shared.releases.clearance import Clearance
from shared.releases.manifest import Manifest, sign_manifest
from shared.releases.reconciliation import RECONCILE_S
from shared.releases.record import ChannelFile
from shared.releases.shelf import Shelf
from shared.releases.window import ASK_AGAIN_S, MAX_ASK_AGAIN_S
from shared.topics import Topics
from tests.builders import (
    CHANNEL,
    CHUNK_BYTES,
    Trusted,
    diagonal_onnx,
    file_of,
    manifest,
    trust_in,
)
from tests.fakes import FakeBroker, FakeLink
from tests.web_server import WebServer
from tier2.relay import MAX_PAUSE_S, PAUSE_S, ChannelRelay

UP = Topics("escalon", "cloud")
DOWN = Topics("escalon", "site-a")


def model_of(seq: int) -> bytes:
    return diagonal_onnx(float(seq))


def release(seq: int, **changes: Any) -> Manifest:
    return manifest(model_of(seq), gain=float(seq), **{"seq": seq, "version": str(seq), **changes})


def wave(described: Manifest, seq: int) -> Manifest:
    """Returns another manifest of the same release."""
    return msgspec.structs.replace(described, seq=seq)


def with_file(described: Manifest, **changes: Any) -> Manifest:
    """Returns a release with its file described otherwise."""
    (variant,) = described.release.variants
    artefact = msgspec.structs.replace(variant.artefact, **changes)
    variants = (msgspec.structs.replace(variant, artefact=artefact),)
    whole = msgspec.structs.replace(described.release, variants=variants)
    return msgspec.structs.replace(described, release=whole)


def full(*_: object) -> None:
    raise StorageError("no space left")


class NoRoom(dict[str, bytes]):
    """What a broker keeps that acknowledges everything and keeps nothing."""

    def __setitem__(self, topic: str, payload: bytes) -> None:
        """Drops it."""


class Rig:
    """A relay between two brokers in memory."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey) -> None:
        self.key = key
        self.trusted = Trusted(key)
        self.cloud, self.site = FakeBroker(), FakeBroker()
        self.up, self.down = FakeLink(self.cloud), FakeLink(self.site)
        self.metrics = NodeMetrics(CollectorRegistry())
        self.folder = folder
        server = BlobServer(self.down, DOWN, self.metrics.drops)
        self.shelf = Shelf(server, Clearance(self.down, DOWN))
        self.relay = ChannelRelay(
            channel=CHANNEL,
            node="site-a.gateway",
            folder=folder,
            trusts=self.trusted,
            up=(self.up, UP),
            down=(self.down, DOWN),
            metrics=self.metrics,
            shelf=self.shelf,
            rng=random.Random(1),
        )
        self.relay.start()
        self.relay.on_site_connected(0.0)

    def retain(self, described: Manifest, chunks: int | None = None) -> None:
        for index, part in enumerate(chunked(model_of(described.seq), CHUNK_BYTES)[:chunks]):
            self.cloud.publish(UP.blob(file_of(described).sha256, index), part, retain=True)

    def publish(self, described: Manifest, *, chunks: int | None = None) -> None:
        self.retain(described, chunks)
        self.cloud.publish(UP.releases(CHANNEL), sign_manifest(described, [self.key]), retain=True)

    def turn(self, now_s: float) -> bool:
        """Takes one turn; returns whether anything went on in it."""
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
        return bool(messages or back or len(self.site.published) > before or self.relay.busy)

    def run(self, now_s: float = 0.0) -> None:
        """Takes turns until both brokers are quiet."""
        idle_turns = 0
        while idle_turns < 2:  # what is subscribed in one turn comes in the next
            idle_turns = 0 if self.turn(now_s) else idle_turns + 1

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


def test_what_was_handed_down_before_the_keys_changed_is_no_error_until_the_new_one_comes(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.publish(release(1))
    rig.run()
    rig.trusted.current = trust_in(Ed25519PrivateKey.generate(), key_epoch=2)
    rig.relay.reconcile(0.0)
    rig.run()
    (said,) = [each for each in caplog.records if "not handed down" in each.getMessage()]
    assert said.levelname == "WARNING"
    forged = sign_manifest(release(2), [Ed25519PrivateKey.generate()])
    rig.cloud.publish(UP.releases(CHANNEL), forged, retain=True)
    rig.run()
    assert caplog.records[-1].levelname == "ERROR"


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
    rig.run(now_s=ASK_AGAIN_S)
    assert set(rig.site.retained) == chunks


def test_after_a_restart_it_hands_down_again_without_the_cloud(make: Callable[[], Rig]) -> None:
    first = make()
    first.publish(release(1))
    first.run()
    again = make()
    again.up.disconnect()
    again.run()
    again.run(now_s=ASK_AGAIN_S)
    assert again.handed_down == [sign_manifest(release(1), [again.key])]


def test_after_a_restart_an_older_release_is_still_ignored(make: Callable[[], Rig]) -> None:
    first = make()
    first.publish(release(2))
    first.run()
    again = make()
    again.publish(release(1))
    again.run()
    again.run(now_s=ASK_AGAIN_S)
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


def test_what_went_while_the_site_was_away_goes_off_its_broker_and_the_disk_after_a_restart(
    make: Callable[[], Rig],
) -> None:
    first = make()
    for seq in (1, 2):
        first.publish(release(seq))
        first.run()
    first.down.disconnect()
    first.publish(release(3))
    first.run()
    again = make()
    again.site.retained |= first.site.retained
    again.run()
    again.run(now_s=ASK_AGAIN_S)
    assert chunks_of(again, release(1)) == set()
    for seq in (2, 3):
        assert len(chunks_of(again, release(seq))) == len(file_of(release(seq)).chunks)
    blobs = BlobStore(again.folder / CHANNEL)
    assert [blobs.has(file_of(release(seq))) for seq in (1, 2, 3)] == [False, True, True]


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


def test_the_release_before_stays_through_all_waves_of_the_next_one_and_a_restart(
    make: Callable[[], Rig],
) -> None:
    rig = make()
    rig.publish(release(1))
    rig.run()
    rig.publish(release(2))
    rig.run()
    rig.publish(wave(release(2), seq=3), chunks=0)
    rig.run()
    rig = make()
    rig.publish(wave(release(2), seq=4), chunks=0)
    rig.run()
    rig.run(now_s=ASK_AGAIN_S)
    assert BlobStore(rig.folder / CHANNEL).has(file_of(release(1)))
    assert len(chunks_of(rig, release(2))) == len(file_of(release(2)).chunks)
    rig.publish(release(5))
    rig.run()
    assert not BlobStore(rig.folder / CHANNEL).has(file_of(release(1)))


def test_a_site_broker_that_kept_everything_gets_no_chunk_again(rig: Rig) -> None:
    rig.publish(release(1))
    rig.run()
    rig.site.published.clear()
    rig.relay.on_site_connected(0.0)
    rig.run()
    assert [message.topic for message in rig.site.published] == [DOWN.releases(CHANNEL)]


def test_of_a_release_that_goes_on_to_its_next_wave_no_chunk_is_sent_again(rig: Rig) -> None:
    rig.publish(release(1))
    rig.run()
    rig.site.published.clear()
    rig.publish(wave(release(1), seq=2), chunks=0)
    rig.run()
    assert [message.topic for message in rig.site.published] == [DOWN.releases(CHANNEL)]


# What fails does not end the gateway, and is tried again


def test_a_full_disk_is_said_once_and_the_release_comes_once_there_is_room(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as disk:
        disk.setattr(BlobStore, "add_chunk", full)
        rig.publish(release(1))
        for turn in range(3):
            rig.run(now_s=turn * RECONCILE_S)
    assert caplog.text.count("no space left") == 1
    assert rig.handed_down == []
    rig.run(now_s=3 * RECONCILE_S)
    assert len(rig.handed_down) == 1


def test_a_full_disk_that_a_download_finds_out_ends_no_gateway(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = model_of(1)
    with WebServer(data).running() as server:
        described = with_file(release(1), url=server.url)
        with monkeypatch.context() as disk:
            disk.setattr(BlobStore, "add_chunk", full)
            rig.cloud.publish(
                UP.releases(CHANNEL), sign_manifest(described, [rig.key]), retain=True
            )
            rig.run()
        assert rig.handed_down == []
        rig.run(now_s=RECONCILE_S)
    assert len(rig.handed_down) == 1


def test_a_full_disk_that_takes_no_copy_costs_no_chunk_of_the_release(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.publish(release(1))
    rig.run()
    rig.publish(release(2))
    with monkeypatch.context() as disk:
        disk.setattr(BlobStore, "copy_chunk", full)
        rig.run()
    rig.run(now_s=RECONCILE_S)
    assert rig.handed_down[-1] == sign_manifest(release(2), [rig.key])


def test_a_record_that_the_disk_did_not_take_is_written_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.publish(release(1))
    with monkeypatch.context() as disk:
        disk.setattr(ChannelFile, "write", full)
        rig.run()
    assert rig.handed_down == []
    rig.run(now_s=RECONCILE_S)
    assert len(rig.handed_down) == 1


def test_what_the_disk_has_lost_is_fetched_again_also_where_the_disk_is_full_at_first(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seq in (1, 2):
        rig.publish(release(seq))
        rig.run()
    (rig.folder / CHANNEL / "blobs" / file_of(release(2)).sha256).unlink()
    rig.site.forget()
    with monkeypatch.context() as disk:
        disk.setattr(BlobStore, "copy_chunk", full)
        rig.relay.on_site_connected(0.0)
        rig.run()
    assert rig.site.retained == {}
    rig.run(now_s=RECONCILE_S)
    rig.run(now_s=RECONCILE_S + ASK_AGAIN_S)
    assert len(chunks_of(rig, release(2))) == len(file_of(release(2)).chunks)


def test_what_is_lost_keeps_no_newer_release_from_coming(rig: Rig) -> None:
    rig.publish(release(1))
    rig.run()
    rig.publish(release(2), chunks=1)
    rig.run()
    (rig.folder / CHANNEL / "blobs" / file_of(release(1)).sha256).unlink()
    rig.relay.on_site_connected(0.0)
    rig.retain(release(2))
    rig.run()
    assert rig.handed_down == [
        sign_manifest(release(1), [rig.key]), sign_manifest(release(2), [rig.key]),
    ]  # fmt: skip


def test_a_file_that_goes_in_mid_publication_is_fetched_again(rig: Rig) -> None:
    rig.down.full = True
    rig.publish(release(1))
    rig.run()
    (rig.folder / CHANNEL / "blobs" / file_of(release(1)).sha256).unlink()
    rig.down.full = False
    rig.run()
    assert rig.handed_down == []
    rig.run(now_s=PAUSE_S)
    rig.run(now_s=PAUSE_S + ASK_AGAIN_S)
    assert rig.handed_down == [sign_manifest(release(1), [rig.key])]


def test_what_a_broker_did_not_keep_is_published_again_ever_more_rarely(rig: Rig) -> None:
    kept, rig.site.retained = rig.site.retained, NoRoom()
    rig.publish(release(1))
    began_s: list[float] = []
    for second in range(int(4 * MAX_PAUSE_S)):
        before = len(rig.site.published)
        rig.run(now_s=float(second))
        if len(rig.site.published) > before:
            began_s.append(float(second))
    pauses_s = [after - before for before, after in itertools.pairwise(began_s)]
    assert PAUSE_S < max(pauses_s) <= MAX_PAUSE_S + 2 * MAX_ASK_AGAIN_S
    assert rig.handed_down == []
    rig.site.retained = kept
    rig.run(now_s=6 * MAX_PAUSE_S)
    assert rig.handed_down == [sign_manifest(release(1), [rig.key])]


def test_a_release_whose_files_are_not_what_was_signed_is_fetched_once(rig: Rig) -> None:
    broken = with_file(release(1), sha256="ab" * 32)
    for index, part in enumerate(chunked(model_of(1), CHUNK_BYTES)):
        rig.cloud.publish(UP.blob("ab" * 32, index), part, retain=True)
    rig.cloud.publish(UP.releases(CHANNEL), sign_manifest(broken, [rig.key]), retain=True)
    for turn in range(4):
        rig.run(now_s=turn * RECONCILE_S)
    asked = [topic for topic in rig.up.subscribed if "/blobs/" in topic]
    assert len(asked) == len(file_of(broken).chunks)
    rig.publish(release(2))
    rig.run()
    assert rig.handed_down == [sign_manifest(release(2), [rig.key])]


# How it fetches


def test_chunks_are_asked_for_under_the_gateways_name(rig: Rig) -> None:
    pulled = with_file(release(1), delivery="pull")
    rig.cloud.publish(UP.releases(CHANNEL), sign_manifest(pulled, [rig.key]), retain=True)
    rig.run()
    assert rig.cloud.payloads(UP.blob_requests("site-a.gateway"))


def test_files_are_put_together_aside_and_what_comes_meanwhile_comes_next(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, assemble = threading.Event(), BlobStore.assemble

    def slowly(store: BlobStore, artefact: Artefact) -> None:
        goes_on.wait()
        assemble(store, artefact)

    monkeypatch.setattr(BlobStore, "assemble", slowly)
    rig.publish(release(1))
    for _ in range(3):
        rig.turn(0.0)
    assert rig.relay.busy
    rig.publish(release(2))
    rig.turn(0.0)
    goes_on.set()
    rig.run()
    assert rig.handed_down == [
        sign_manifest(release(1), [rig.key]), sign_manifest(release(2), [rig.key]),
    ]  # fmt: skip
