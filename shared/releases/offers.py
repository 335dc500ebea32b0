"""Makes an update of a manifest: what fetches its files, when it begins, when it gives up."""

from __future__ import annotations

import random

from shared.metrics import NodeMetrics
from shared.releases.blobs import BlobStore
from shared.releases.fetch import Fetch
from shared.releases.manifest import Manifest
from shared.releases.place import Place
from shared.releases.record import Accepted
from shared.releases.standing import Standing
from shared.releases.update import Update

JITTER_S = 0.2  # spreads a site's nodes over the broker when a manifest reaches them all at once


class Offers:
    """Makes the updates of a channel.

    Args:
        place: from where, and under which name, files are fetched.
        blobs: where to.
        standing: what comes may have chunks in common with what stands.
        metrics: counts the chunks that were not used.
        rng: jitter.
        deadline_s: so long a fetch may take.
    """

    def __init__(
        self,
        place: Place,
        blobs: BlobStore,
        standing: Standing,
        metrics: NodeMetrics,
        *,
        rng: random.Random,
        deadline_s: float,
    ) -> None:
        self._place = place
        self._blobs = blobs
        self._standing = standing
        self._metrics = metrics
        self._rng = rng
        self._deadline_s = deadline_s

    def make(
        self, accepted: Accepted, manifest: Manifest, now_s: float, *, repairs: bool = False
    ) -> Update:
        """Returns an update that has not begun.

        Args:
            accepted: the signed manifest.
            manifest: the same, read.
            now_s: monotonic.
            repairs: whether it brings back what was committed, and the disk has lost.
        """
        place, known = self._place, self._standing.files
        fetches = [
            Fetch(
                artefact,
                self._blobs,
                place.link,
                place.topics,
                self._metrics,
                node=place.node,
                known=known,
                rng=self._rng,
            )
            for artefact in manifest.release.artefacts
        ]
        begins_s = now_s + self._rng.uniform(0, JITTER_S)
        ends_s = begins_s + self._deadline_s
        return Update(accepted, manifest, fetches, begins_s, ends_s, repairs=repairs)
