"""An update under way: what it is about, and what works for it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from shared.model import Model
from shared.releases.fetch import Fetch
from shared.releases.journal import Subject
from shared.releases.manifest import Manifest
from shared.releases.probation import Probation
from shared.releases.record import Accepted
from shared.releases.release import Release
from shared.releases.smoke import SmokeTest
from shared.releases.trust import Trust


@dataclass
class Update:
    """An update under way.

    Attributes:
        accepted: the signed manifest, and the file that was chosen.
        manifest: the same, read.
        fetches: bring its files.
        begins_s: when the first chunk may be asked for, monotonic.
        ends_s: when all chunks must be here, monotonic.
        assembling: puts the files together.
        smoke: tries them.
        loading: loads the one that was chosen.
        model: that one, loaded.
        probation: watches that one, from the swap on.
        repairs: whether it brings back what was committed, and the disk has lost.
        trust: the document by which it was last found to be rightly signed.
    """

    accepted: Accepted
    manifest: Manifest
    fetches: Sequence[Fetch]
    begins_s: float
    ends_s: float
    assembling: Future[None] | None = None
    smoke: SmokeTest | None = None
    loading: Future[Model] | None = None
    model: Model | None = None
    probation: Probation | None = None
    repairs: bool = False
    trust: Trust | None = None

    @property
    def release(self) -> Release:
        """What is to serve."""
        return self.manifest.release

    @property
    def subject(self) -> Subject:
        """What its reports speak of."""
        fetched = sum(fetch.bytes_fetched for fetch in self.fetches)
        return Subject(self.manifest, self.accepted.sha256, fetched)

    def fetch_of(self, sha256: str) -> Fetch | None:
        """Returns what brings a file, None if it is not one of this update."""
        for fetch, artefact in zip(self.fetches, self.release.artefacts, strict=True):
            if artefact.sha256 == sha256:
                return fetch
        return None

    def stop(self) -> None:
        """Ends what works for it."""
        for fetch in self.fetches:
            fetch.end()
        if self.smoke is not None:
            self.smoke.stop()
