"""A release on its way to a gateway: fetched, then put together aside."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future

from shared.releases.blobs import BlobStore
from shared.releases.fetch import Fetch
from shared.releases.manifest import Manifest


class Coming:
    """A release on its way to this gateway.

    Whatever it raises, it has failed, and is to be ended.

    Args:
        envelope: the signed manifest.
        manifest: the same, read.
        fetches: bring its files, in their order.
        blobs: where to.
        thread: puts the files together: some have 64 MiB and more.

    Attributes:
        envelope: the signed manifest.
        manifest: the same, read.
    """

    def __init__(
        self,
        envelope: bytes,
        manifest: Manifest,
        fetches: Sequence[Fetch],
        blobs: BlobStore,
        thread: Executor,
    ) -> None:
        self.envelope = envelope
        self.manifest = manifest
        self._fetches = fetches
        self._blobs = blobs
        self._thread = thread
        self._assembling: Future[None] | None = None

    def begin(self, now_s: float) -> None:
        """Asks for what is not on the disk yet.

        Raises:
            StorageError: the disk does not take what is copied.
        """
        for fetch in self._fetches:
            fetch.begin(now_s)

    def on_chunk(self, sha256: str, index: int, data: bytes, now_s: float) -> None:
        """Takes a chunk, if it is of one of its files.

        Raises:
            StorageError: the disk does not take it.
        """
        for fetch, artefact in zip(self._fetches, self.manifest.release.artefacts, strict=True):
            if artefact.sha256 == sha256:
                fetch.on_chunk(index, data, now_s)

    def poll(self, now_s: float) -> bool:
        """Goes on; returns whether every file is here and whole.

        Raises:
            DigestError: a file is not what was signed, though its chunks are.
            StorageError: the disk does not take what came, or has changed it.
        """
        if self._assembling is None:
            for fetch in self._fetches:
                fetch.poll(now_s)
            if not all(fetch.complete for fetch in self._fetches):
                return False
            self._assembling = self._thread.submit(self._assemble)
        if not self._assembling.done():
            return False
        self._assembling.result()
        return True

    @property
    def assembling(self) -> bool:
        """Whether all chunks are here and a thread puts them together."""
        return self._assembling is not None

    @property
    def busy(self) -> bool:
        """Whether something goes on that wakes no socket."""
        return self.assembling or any(fetch.busy for fetch in self._fetches)

    def end(self) -> None:
        """Ends what is asked for. What is on the disk stays there."""
        for fetch in self._fetches:
            fetch.end()

    def _assemble(self) -> None:
        for artefact in self.manifest.release.artefacts:
            self._blobs.assemble(artefact)
