"""Fetches an artefact's chunks: from older versions, from a web server, or over MQTT."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Sequence

from shared.errors import DigestError
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.releases.artefact import Artefact, chunks_in_common
from shared.releases.blobs import BlobStore
from shared.releases.chunk_source import ChunkSource, PulledChunks, RetainedChunks
from shared.releases.download import Download
from shared.releases.window import ASK_AGAIN_S, WINDOW, ChunkWindow
from shared.topics import Topics

__all__ = ["ASK_AGAIN_S", "WINDOW", "Fetch"]

COPIES_PER_POLL = 16
TENTHS = 10
STALLED_S = 120.0
"""Without a chunk for that long a download is given up, whatever its server is busy with."""

log = logging.getLogger(__name__)


class Fetch:
    """One artefact on its way to the disk.

    What an older version has is copied. The rest comes by HTTP where the artefact has a URL; where
    it has none, or the URL fails again and again, over MQTT.

    Args:
        artefact: what to fetch.
        blobs: where to.
        link: from where.
        topics: of the site that it is fetched from.
        metrics: counts the chunks that were not used.
        node: who asks for what is not retained; by default, the name of the link.
        known: older artefacts that may be whole in ``blobs``.
        rng: jitter.

    Attributes:
        bytes_fetched: that came over a network and were used, in this process.
    """

    def __init__(
        self,
        artefact: Artefact,
        blobs: BlobStore,
        link: Link,
        topics: Topics,
        metrics: NodeMetrics,
        *,
        node: str = "",
        known: Sequence[Artefact] = (),
        rng: random.Random | None = None,
    ) -> None:
        self.bytes_fetched = 0
        self._artefact = artefact
        self._blobs = blobs
        self._link = link
        self._metrics = metrics
        self._known = known
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._source: ChunkSource = (
            PulledChunks(artefact, link, topics, node or link.client_id)
            if artefact.delivery == "pull"
            else RetainedChunks(artefact, link, topics)
        )
        self._window = self._make_window(())
        self._copies: deque[tuple[int, Artefact, int]] = deque()
        self._download: Download | None = None
        self._asks = False
        self._left = len(artefact.chunks)
        self._said_tenths = 0
        self._session = 0
        self._progress_s = 0.0

    def begin(self, now_s: float) -> None:
        """Finds out what is not on disk yet, and asks for it.

        Raises:
            StorageError: the disk does not take what is copied.
        """
        artefact, blobs = self._artefact, self._blobs
        missing = [] if blobs.has(artefact) else blobs.missing(artefact)
        whole = [each for each in self._known if blobs.has(each)] if missing else []
        here = chunks_in_common(artefact, whole)
        self._copies = deque((index, *here[index]) for index in missing if index in here)
        self._left = len(missing)
        self._said_tenths = int(TENTHS * self.share)
        wanted = [index for index in missing if index not in here]
        if not self._source.in_order:
            self._rng.shuffle(wanted)
        self._window = self._make_window(wanted)
        if artefact.url and missing:
            self._download = Download(artefact, blobs, self._rng)
            self._progress_s = now_s
        elif missing:
            self._begin_asking()
        self.poll(now_s)

    @property
    def complete(self) -> bool:
        """Whether every chunk is on disk."""
        return not self._left

    @property
    def busy(self) -> bool:
        """Whether something goes on that wakes no socket: a copy, a download."""
        return bool(self._copies) or self._download is not None

    @property
    def chunks_done(self) -> int:
        """How many chunks are on disk, whatever they came from."""
        return len(self._artefact.chunks) - self._left

    @property
    def share(self) -> float:
        """Share of the chunks that are on disk, 0 to 1."""
        return self.chunks_done / len(self._artefact.chunks)

    def on_chunk(self, index: int, data: bytes, now_s: float) -> None:
        """Takes a chunk; one that is not the signed one is dropped, counted and asked for again.

        Raises:
            StorageError: the disk does not take it.
        """
        if not self._asks or index not in self._window:
            known = 0 <= index < len(self._artefact.chunks)
            self._drop("repeated_chunk" if known else "foreign_chunk")
            return
        try:
            self._blobs.add_chunk(self._artefact, index, data)
        except DigestError as error:
            log.warning("%s", error)
            self._drop("bad_chunk")
            return
        self.bytes_fetched += len(data)
        self._count()
        self._window.came(index, now_s)
        self._source.came(index)
        self._ask(now_s)
        if self.complete:
            self.end()

    def poll(self, now_s: float) -> None:
        """Goes on: copies, looks after the download, asks again for what did not come.

        Raises:
            StorageError: the disk does not take what came.
        """
        for _ in range(min(COPIES_PER_POLL, len(self._copies))):
            self._copy(*self._copies[0])
            self._copies.popleft()
        if self._copies:
            return
        if self._download is not None:
            self._follow(self._download, now_s)
        if self._asks and self._link.connected:
            self._after_reconnect(now_s)
            late = self._window.time_out(now_s)
            if late:
                self._source.timed_out(late)
            self._ask(now_s)

    def end(self) -> None:
        """Ends what is subscribed, and the download. What is on disk stays there."""
        if self._download is not None:
            self._download.stop()
            self._download = None
        if self._asks:
            self._asks = False
            self._source.end(self._window.asked)

    def _begin_asking(self) -> None:
        self._asks = True
        self._session = self._link.session
        self._source.begin()

    def _after_reconnect(self, now_s: float) -> None:
        if self._link.session == self._session:
            return
        self._session = self._link.session
        if self._source.answers_after_reconnect:
            self._window.begin_waiting(now_s)
        else:
            self._window.withdraw()

    def _ask(self, now_s: float) -> None:
        asked = self._window.ask(now_s)
        if asked and not self._source.ask(asked):
            self._window.withdraw()

    def _copy(self, index: int, older: Artefact, its: int) -> None:
        if self._blobs.copy_chunk(self._artefact, index, older, its):
            self._count()
        else:
            self._window.add(index)

    def _follow(self, download: Download, now_s: float) -> None:
        """Starts the download once all is copied; takes note of what has come by it."""
        download.start()  # once
        ended = download.ended  # first: what comes between the two is seen at the next turn
        for index, size in download.take_news():
            self.bytes_fetched += size
            self._count()
            self._window.came(index, now_s)
            self._progress_s = now_s
        self._drop("bad_chunk", download.take_bad())
        if not ended and now_s < self._progress_s + STALLED_S:
            return
        download.stop()
        self._download = None
        if download.error is not None:
            raise download.error
        if not self.complete:
            log.warning("%s; fetching the rest over MQTT", download.trouble)
            self._begin_asking()

    def _count(self) -> None:
        """Counts a chunk that is here; says so at each tenth of the file: some take hours."""
        self._left -= 1
        tenths = int(TENTHS * self.share)
        if tenths > self._said_tenths:
            self._said_tenths = tenths
            number = len(self._artefact.chunks)
            log.info("%s: %d of %d chunks here", self._artefact.sha256, self.chunks_done, number)

    def _make_window(self, missing: Sequence[int]) -> ChunkWindow:
        return ChunkWindow(missing, self._rng, self._source.batch)

    def _drop(self, reason: str, times: int = 1) -> None:
        self._metrics.drops.labels(reason=reason).inc(times)
