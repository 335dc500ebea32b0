"""Lets a worker serve what worker 0 has committed: it fetches nothing and reports nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from shared.config import ReleasesConfig
from shared.errors import ArtefactError, EscalonError
from shared.model import Model
from shared.releases.blobs import BlobStore
from shared.releases.health import Health
from shared.releases.manifest import Manifest, Void, read_manifest
from shared.releases.record import Accepted, ChannelFile, ChannelRecord

LOOK_S = 0.25
RETRY_S = 10.0

Load = Callable[[Path, Manifest], Model]

log = logging.getLogger(__name__)


class Follower:
    """Follows one channel through the record and the artefacts that worker 0 keeps on the disk.

    Only what is committed is followed. A release in its probation serves on worker 0 alone, so one
    that breaks there, or kills the process, has touched one worker and its share of the samples.
    A rollback by a newer manifest is a commit like any other.

    Args:
        config: the channel.
        state_dir: the node's folder.
        load: loads an artefact that a manifest describes; raises ``ArtefactError``.
    """

    def __init__(self, *, config: ReleasesConfig, state_dir: Path, load: Load) -> None:
        self._channel = config.channel
        self._load = load
        self._file = ChannelFile.of(state_dir, config.channel)
        self._blobs = BlobStore(state_dir / "models" / config.channel)
        self._serving: Model | None = None
        self._accepted: Accepted | None = None
        self._void: Void | None = None
        self._stamp: tuple[int, int] | None = None
        self._loading: tuple[Accepted, Future[Model]] | None = None
        self._look_s = 0.0
        self._loader = ThreadPoolExecutor(1, thread_name_prefix=f"load-{config.channel}")

    def start(self) -> None:
        """Loads the committed release, or the one before it where that one cannot serve."""
        self._stamp = self._file.stamp()
        record = self._file.peek() or ChannelRecord()
        for accepted in record.standing:
            if self._serving is None:
                try:
                    self._serving = self._read(accepted)
                    self._note(accepted)
                except EscalonError as error:
                    log.error("%s: a committed release cannot serve: %s", self._channel, error)

    def begin_with(self, model: Model) -> None:
        """Lets a model serve until the first release."""
        self._serving = model

    @property
    def serving(self) -> Model | None:
        """The model that is to serve from the next batch on; None while there is none."""
        return self._serving

    @property
    def void(self) -> Void | None:
        """What is said of the certificates of what serves; None where they are not void."""
        return self._void

    @property
    def busy(self) -> bool:
        """Whether a thread loads a model, which wakes no socket."""
        return self._loading is not None

    def poll(self, health: Health, now_s: float) -> None:
        """Looks whether worker 0 has committed another release, and loads it aside.

        Args:
            health: of no interest here: worker 0 has judged the release.
            now_s: monotonic.
        """
        if self._loading is not None:
            accepted, loading = self._loading
            if loading.done():
                self._loading = None
                self._take(accepted, loading, now_s)
        elif now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
            self._look()

    def close(self) -> None:
        """Ends the thread."""
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> None:
        stamp = self._file.stamp()
        if stamp == self._stamp:
            return
        record = self._file.peek()
        if record is None:
            return
        self._stamp = stamp
        if record.active is None or record.active == self._accepted:
            return
        if self._is_what_serves(record.active):
            self._note(record.active)
        else:
            self._loading = record.active, self._loader.submit(self._read, record.active)

    def _is_what_serves(self, accepted: Accepted) -> bool:
        """Whether a manifest brings the release that serves, and says something else of it."""
        serving = self._accepted
        if serving is None or accepted.sha256 != serving.sha256:
            return False
        try:
            manifests = [read_manifest(each.envelope) for each in (serving, accepted)]
        except ArtefactError:
            return False
        return manifests[0].release == manifests[1].release

    def _note(self, accepted: Accepted) -> None:
        self._accepted, self._void = accepted, read_manifest(accepted.envelope).void

    def _take(self, accepted: Accepted, loading: Future[Model], now_s: float) -> None:
        try:
            self._serving = loading.result()
            self._note(accepted)
        except EscalonError as error:
            log.error("%s: what worker 0 serves cannot serve here: %s", self._channel, error)
            self._stamp, self._look_s = None, now_s + RETRY_S

    def _read(self, accepted: Accepted) -> Model:
        manifest = read_manifest(accepted.envelope)
        artefact = manifest.release.variant(accepted.sha256).artefact
        if not self._blobs.has(artefact):
            raise ArtefactError(f"{artefact.sha256} is damaged or gone")
        return self._load(self._blobs.path(artefact.sha256), manifest)
