"""Fetches an artefact's chunks from a web server, in a thread, as far as it gives them.

The server has the chunks as they travel, one after the other. Nothing of it is believed: each chunk
has its own digest, and no more is read than was signed.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from shared.errors import DigestError, StorageError
from shared.releases.artefact import Artefact
from shared.releases.blobs import BlobStore

if TYPE_CHECKING:
    from shared.releases.web import WebFile

MAX_FUTILE_ATTEMPTS = 4
PAUSE_S = 1.0
MAX_PAUSE_S = 30.0
CHUNK_DEADLINE_S = 60.0


class Run(NamedTuple):
    """Chunks that lie one after the other.

    Attributes:
        first: index of the first one.
        last: index of the last one.
        start: where the first one begins on the server, in bytes.
        size: of all of them, in bytes.
    """

    first: int
    last: int
    start: int
    size: int


def runs(artefact: Artefact, missing: Sequence[int]) -> list[Run]:
    """Returns what to ask a server for. Pure.

    Args:
        artefact: whose chunks.
        missing: their indices, ascending.
    """
    wanted, found = set(missing), []
    start = begin = size = 0
    first: int | None = None
    for index in range(len(artefact.chunks)):
        if index in wanted:
            if first is None:
                first, begin, size = index, start, 0
            size += artefact.wire_size(index)
        elif first is not None:
            found.append(Run(first, index - 1, begin, size))
            first = None
        start += artefact.wire_size(index)
    if first is not None:
        found.append(Run(first, len(artefact.chunks) - 1, begin, size))
    return found


class Download:
    """One artefact on its way from a web server to the disk.

    It gives up when attempt after attempt has brought no chunk.

    Args:
        artefact: what, with its URL.
        blobs: where to.
        rng: jitter of the pauses between attempts.

    Attributes:
        trouble: what went wrong last, in words.
        error: what the disk said, if it did not take a chunk.
    """

    def __init__(self, artefact: Artefact, blobs: BlobStore, rng: random.Random) -> None:
        self.trouble = f"{artefact.url} gave nothing"
        self.error: StorageError | None = None
        self._artefact = artefact
        self._blobs = blobs
        self._rng = rng
        self._stopped = threading.Event()
        self._news: deque[tuple[int, int]] = deque()
        self._bad: deque[int] = deque()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="download", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Has the thread end with the next bytes that come, and writes no chunk from then on."""
        self._stopped.set()

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._thread is not None and not self._thread.is_alive()

    def take_news(self) -> list[tuple[int, int]]:
        """Returns index and size on the wire of the chunks that have come since the last time."""
        return [self._news.popleft() for _ in range(len(self._news))]

    def take_bad(self) -> int:
        """Returns how many chunks since the last time were not the signed ones."""
        return len([self._bad.popleft() for _ in range(len(self._bad))])

    def _run(self) -> None:
        from shared.releases.web import WebError, WebFile  # noqa: PLC0415 - most nodes need no HTTP

        file, futile = WebFile(self._artefact.url, self._artefact.wire_total), 0
        while not self._stopped.is_set() and futile < MAX_FUTILE_ATTEMPTS:
            missing = self._blobs.missing(self._artefact)
            if not missing:
                return
            try:
                for run in runs(self._artefact, missing):
                    self._take(file, run)
            except WebError as error:
                self.trouble = str(error)
            except StorageError as error:
                self.error = error
                return
            if len(self._blobs.missing(self._artefact)) < len(missing):
                futile = 0
                continue
            futile += 1
            pause_s = min(PAUSE_S * 2 ** (futile - 1), MAX_PAUSE_S)
            if futile < MAX_FUTILE_ATTEMPTS:
                self._stopped.wait(pause_s * self._rng.uniform(0.5, 1.0))

    def _take(self, file: WebFile, run: Run) -> None:
        with file.read(run.start, run.size) as body:
            for index in range(run.first, run.last + 1):
                deadline_s = time.monotonic() + CHUNK_DEADLINE_S
                data = body.take(self._artefact.wire_size(index), deadline_s)
                if self._stopped.is_set():
                    return
                self._keep(index, data)

    def _keep(self, index: int, data: bytes) -> None:
        try:
            self._blobs.add_chunk(self._artefact, index, data)
        except DigestError as error:
            self.trouble = f"{self._artefact.url} gave other bytes: {error}"
            self._bad.append(index)
        else:
            self._news.append((index, len(data)))
