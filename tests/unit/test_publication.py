"""A release is there for the nodes only when all of it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import StorageError
from shared.releases.blobs import BlobStore, chunked, describe
from shared.releases.manifest import sign_manifest
from shared.releases.publication import WINDOW, Publication
from shared.topics import Topics
from tests.builders import CHANNEL, diagonal_onnx, file_of, manifest, variant
from tests.fakes import FakeBroker, FakeLink

TOPICS = Topics("escalon", "cloud")
DATA = diagonal_onnx(1.0)
CHUNK_BYTES = 5
PARTS = chunked(DATA, CHUNK_BYTES)
MANIFEST = manifest(DATA, variants=(variant(DATA, artefact=describe(DATA, CHUNK_BYTES, "fp32")),))


class Rig:
    """A publication to a broker in memory."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey, *, connected: bool = True) -> None:
        self.hub = FakeBroker()
        self.link = FakeLink(self.hub, connected=connected)
        self.blobs = BlobStore(folder)
        self.blobs.add(DATA)
        self.envelope = sign_manifest(MANIFEST, [key])
        self.publication = Publication(self.envelope, MANIFEST, self.blobs, self.link, TOPICS)

    def acknowledge_all(self) -> None:
        while not self.publication.published:
            before = len(self.hub.published)
            self.link.receive()
            assert self.publication.published or len(self.hub.published) > before

    @property
    def manifests(self) -> list[bytes]:
        return self.hub.payloads(TOPICS.releases(CHANNEL))


@pytest.fixture
def rig(tmp_path: Path, release_key: Ed25519PrivateKey) -> Rig:
    return Rig(tmp_path, release_key)


def test_all_is_retained_and_the_manifest_comes_last(rig: Rig) -> None:
    rig.publication.begin()
    rig.acknowledge_all()
    sent = rig.hub.published
    assert [message.payload for message in sent] == [*PARTS, rig.envelope]
    assert all(message.retain and message.qos == 1 for message in sent)
    assert sent[3].topic == TOPICS.blob(file_of(MANIFEST).sha256, 3)
    assert sent[-1].topic == TOPICS.releases(CHANNEL)


def test_without_acknowledgements_no_more_than_a_window_leaves_and_no_manifest(rig: Rig) -> None:
    assert len(PARTS) > WINDOW
    rig.link.holds_acks = True
    rig.publication.begin()
    for _ in range(5):
        rig.publication.poll()
        rig.link.receive()
    assert len(rig.hub.published) == WINDOW
    assert rig.manifests == []


def test_the_manifest_waits_for_the_last_chunks_acknowledgement(rig: Rig) -> None:
    rig.publication.begin()
    while len(rig.hub.published) < len(PARTS):
        rig.link.receive()
    rig.publication.poll()
    assert rig.manifests == []
    rig.link.receive()
    assert rig.manifests == [rig.envelope]
    assert not rig.publication.published
    rig.link.receive()
    assert rig.publication.published


def test_a_link_that_takes_nothing_for_a_while_delays_and_loses_nothing(rig: Rig) -> None:
    rig.link.full = True
    rig.publication.begin()
    assert rig.hub.published == []
    rig.link.full = False
    rig.publication.poll()
    rig.acknowledge_all()
    assert [message.payload for message in rig.hub.published] == [*PARTS, rig.envelope]


def test_a_link_that_takes_all_but_the_manifest_is_asked_again(rig: Rig) -> None:
    rig.publication.begin()
    while len(rig.hub.published) < len(PARTS):
        rig.link.receive()
    rig.link.full = True
    rig.link.receive()
    assert rig.manifests == []
    rig.link.full = False
    rig.publication.poll()
    assert rig.manifests == [rig.envelope]
    rig.publication.poll()
    assert rig.manifests == [rig.envelope]


def test_a_broker_that_forgot_everything_gets_everything_again(rig: Rig) -> None:
    rig.publication.begin()
    rig.acknowledge_all()
    rig.hub.forget()
    rig.link.disconnect()
    rig.link.connect()
    rig.publication.begin()
    for _ in range(len(PARTS)):
        rig.link.receive()
    assert len(rig.hub.retained) == len(PARTS) + 1


def test_acknowledgements_of_an_earlier_attempt_do_not_open_the_window(rig: Rig) -> None:
    rig.publication.begin()
    rig.link.holds_acks = True
    rig.publication.begin()
    rig.hub.published.clear()
    rig.link.holds_acks = False
    rig.acknowledge_all()
    # Of the second attempt a window had left before; the rest and the manifest followed once.
    assert [message.payload for message in rig.hub.published] == [*PARTS[WINDOW:], rig.envelope]


def test_an_artefact_that_is_gone_from_the_disk_is_an_error_of_storage(rig: Rig) -> None:
    rig.blobs.prune(set())
    with pytest.raises(StorageError):
        rig.publication.begin()
    assert rig.hub.published == []


def test_a_release_that_a_broker_can_never_take_is_said_and_tried_on_the_next_connection(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    room, rig.link.max_packet_bytes = rig.link.max_packet_bytes, 50
    rig.publication.begin()
    for _ in range(3):
        rig.link.receive()
        rig.publication.poll()
    assert rig.hub.published == []
    assert caplog.text.count("cannot be published") == 1
    rig.link.max_packet_bytes = room
    rig.publication.begin()
    rig.acknowledge_all()
    assert rig.manifests == [rig.envelope]
