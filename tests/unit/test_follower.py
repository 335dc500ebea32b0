"""A worker serves what worker 0 has committed, and nothing sooner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.config import ReleasesConfig
from shared.errors import ArtefactError
from shared.model import Model
from shared.releases.blobs import BlobStore
from shared.releases.follower import RETRY_S, Follower
from shared.releases.health import Health
from shared.releases.machine import State
from shared.releases.manifest import Manifest, Void, sign_manifest
from shared.releases.record import Accepted, ChannelFile, ChannelRecord
from tests.builders import CHANNEL, diagonal_onnx, load_echo, manifest
from tests.fakes import wait_until

HEALTH = Health(0, 0)


class Site:
    """A node's folder as worker 0 leaves it, and a worker that follows."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey) -> None:
        (folder / "trust.signed").touch()
        self.key = key
        self.file = ChannelFile.of(folder, CHANNEL)
        self.blobs = BlobStore(folder / "models" / CHANNEL)
        self.loads: list[str] = []
        self.fails = False
        self.now_s = 1000.0
        self._folder = folder
        self.follower = Follower(
            config=ReleasesConfig(channel=CHANNEL, trust=folder / "trust.signed"),
            state_dir=folder,
            load=self._load,
        )

    def _load(self, path: Path, described: Manifest) -> Model:
        assert path.read_bytes()
        self.loads.append(described.release.version)
        if self.fails:
            raise ArtefactError("does not load")
        return load_echo(self._folder, version=described.release.version)

    def accepted(self, number: int, **changes: Any) -> Accepted:
        """Puts a release's file in place; returns what worker 0 remembers of it."""
        data = diagonal_onnx(float(number))
        digest = self.blobs.add(data)
        changes = {"seq": number, "version": str(number), **changes}
        described = manifest(data, gain=float(number), **changes)
        return Accepted(sign_manifest(described, [self.key]), digest)

    def write(self, **record: Any) -> None:
        self.file.write(ChannelRecord(**record))

    @property
    def version(self) -> str | None:
        """Of the model that serves."""
        model = self.follower.serving
        return None if model is None else model.spec.version

    def look(self) -> None:
        """Lets the follower look once, and end what that began."""
        self.now_s += RETRY_S
        self.follower.poll(HEALTH, self.now_s)
        wait_until(self._is_done, "the model is loaded")

    def _is_done(self) -> bool:
        if self.follower.busy:
            self.follower.poll(HEALTH, self.now_s)
        return not self.follower.busy


@pytest.fixture
def site(tmp_path: Path, release_key: Ed25519PrivateKey) -> Iterator[Site]:
    """A folder without releases."""
    site = Site(tmp_path, release_key)
    yield site
    site.follower.close()


def test_without_a_release_it_has_what_it_was_given(site: Site, tmp_path: Path) -> None:
    site.follower.start()
    assert site.follower.serving is None
    site.follower.begin_with(load_echo(tmp_path, version="local"))
    site.look()
    assert site.version == "local"


def test_at_its_start_it_serves_the_committed_release(site: Site) -> None:
    site.write(active=site.accepted(2), previous=site.accepted(1))
    site.follower.start()
    assert site.version == "2"
    site.look()
    assert site.loads == ["2"]


def test_where_the_committed_one_is_damaged_it_starts_with_the_one_before(site: Site) -> None:
    active = site.accepted(2)
    site.write(active=active, previous=site.accepted(1))
    for blob in site.blobs.path("x").parent.iterdir():
        if blob.read_bytes() == diagonal_onnx(2.0):
            blob.write_bytes(b"damaged")
    site.follower.start()
    assert site.version == "1"
    site.accepted(2)
    site.write(active=active, previous=None)
    site.look()
    assert site.version == "2"


def test_a_commit_is_followed(site: Site) -> None:
    site.follower.start()
    site.write(active=site.accepted(1))
    site.look()
    assert site.version == "1"
    site.write(active=site.accepted(2))
    site.look()
    assert site.version == "2"


def test_a_rollback_to_an_older_artefact_is_followed(site: Site) -> None:
    first, second = site.accepted(1), site.accepted(2)
    site.write(active=second, previous=first)
    site.follower.start()
    site.write(active=first, previous=second)
    site.look()
    assert site.version == "1"


@pytest.mark.parametrize("state", [State.FETCHING, State.ACTIVATING, State.PROBATION])
def test_what_is_not_committed_is_not_followed(site: Site, state: State) -> None:
    site.write(active=site.accepted(1))
    site.follower.start()
    site.write(active=site.accepted(1), pending=site.accepted(2), state=state)
    site.look()
    assert (site.version, site.loads) == ("1", ["1"])


def test_the_old_model_serves_until_the_new_one_is_loaded(site: Site) -> None:
    site.write(active=site.accepted(1))
    site.follower.start()
    site.write(active=site.accepted(2))
    site.now_s += RETRY_S
    site.follower.poll(HEALTH, site.now_s)
    assert site.follower.busy
    assert site.version == "1"


def test_what_does_not_load_here_is_said_and_tried_again(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.write(active=site.accepted(1))
    site.follower.start()
    site.fails = True
    site.write(active=site.accepted(2))
    site.look()
    assert site.version == "1"
    assert "cannot serve here: does not load" in caplog.text
    site.follower.poll(HEALTH, site.now_s + 0.9 * RETRY_S)
    assert not site.follower.busy
    site.fails = False
    site.look()
    assert site.version == "2"


def test_a_release_without_the_file_that_was_chosen_is_not_followed(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.follower.start()
    other = msgspec.structs.replace(site.accepted(9), sha256="0" * 64)
    site.write(active=other)
    site.look()
    assert site.version is None
    assert "cannot serve here" in caplog.text


def test_a_record_that_cannot_be_read_is_left_alone(site: Site, tmp_path: Path) -> None:
    site.write(active=site.accepted(1))
    site.follower.start()
    path = tmp_path / "channels" / f"{CHANNEL}.json"
    path.write_bytes(b"{")
    site.look()
    assert site.version == "1"
    assert path.read_bytes() == b"{"


VOID = Void(reason="drift", since=1.0)


def test_what_voids_and_restores_a_release_is_followed_without_loading_it_again(
    site: Site,
) -> None:
    site.write(active=site.accepted(1))
    site.follower.start()
    assert site.follower.void is None
    for seq, void in ((2, VOID), (3, None)):
        site.write(active=site.accepted(1, seq=seq, void=void))
        site.look()
        assert site.follower.void == void
    assert site.loads == ["1"]


def test_at_its_start_it_knows_that_a_release_is_void(site: Site) -> None:
    site.write(active=site.accepted(1, void=VOID))
    site.follower.start()
    assert site.follower.void == VOID


def test_the_same_file_as_another_version_is_loaded(site: Site) -> None:
    site.write(active=site.accepted(1, void=VOID))
    site.follower.start()
    site.write(active=site.accepted(1, seq=2, version="1b"))
    site.look()
    assert (site.version, site.follower.void) == ("1b", None)
