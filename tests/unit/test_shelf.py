"""What a gateway has for its site comes from a channel that has it, and goes with the last one."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.messages import SCHEMA_VERSION, BlobRequest, pack
from shared.metrics import NodeMetrics
from shared.releases.blob_server import BlobServer
from shared.releases.blobs import BlobStore, describe
from shared.releases.clearance import Clearance
from shared.releases.shelf import Shelf
from shared.topics import Topics
from tests.fakes import FakeBroker, FakeLink

TOPICS = Topics("escalon", "site-a")
DATA = random.Random(1).randbytes(3000)
OTHER = random.Random(2).randbytes(3000)
FILE = describe(DATA, 1000, "fp32", may_pack=False, pull_above_bytes=0)
ANOTHER = describe(OTHER, 1000, "fp32", may_pack=False, pull_above_bytes=0)
CUT_OTHERWISE = describe(DATA, 500, "fp32", may_pack=False, pull_above_bytes=0)


class Rig:
    """A shelf, and a node that asks for what is on it."""

    def __init__(self, metrics: NodeMetrics) -> None:
        self.hub = FakeBroker()
        self.link = FakeLink(self.hub)
        self.server = BlobServer(self.link, TOPICS, metrics.drops)
        self.shelf = Shelf(self.server, Clearance(self.link, TOPICS))

    def ask(self, index: int) -> list[bytes]:
        """Returns what comes when a node asks for a chunk of the file."""
        self.hub.published.clear()
        request = BlobRequest(SCHEMA_VERSION, FILE.sha256, (index,))
        self.server.on_request(TOPICS.blob_requests("press-1"), pack(request))
        return self.hub.payloads(TOPICS.blob(FILE.sha256, index))


@pytest.fixture
def rig(metrics: NodeMetrics) -> Rig:
    return Rig(metrics)


@pytest.fixture
def store(tmp_path: Path) -> Callable[[str], BlobStore]:
    """Makes the store of a channel, with both files in it."""

    def make(channel: str) -> BlobStore:
        blobs = BlobStore(tmp_path / channel)
        blobs.add(DATA)
        blobs.add(OTHER)
        return blobs

    return make


def test_a_file_of_two_channels_comes_from_the_one_that_still_has_it(
    rig: Rig, store: Callable[[str], BlobStore]
) -> None:
    first, second = store("first"), store("second")
    rig.shelf.hold("second", [FILE], second)
    rig.shelf.hold("first", [FILE], first)
    rig.shelf.hold("first", [ANOTHER], first)
    first.prune({ANOTHER.sha256})
    assert rig.ask(0) == [DATA[:1000]]
    rig.shelf.hold("second", [ANOTHER], second)
    assert rig.ask(0) == []


def test_a_file_that_is_cut_otherwise_in_a_new_release_comes_as_that_one_has_it(
    rig: Rig, store: Callable[[str], BlobStore]
) -> None:
    blobs = store("first")
    rig.shelf.hold("first", [FILE], blobs)
    rig.shelf.hold("first", [FILE, CUT_OTHERWISE], blobs)
    assert rig.ask(5) == [DATA[2500:]]
