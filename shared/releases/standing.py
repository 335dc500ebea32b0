"""What is committed on a node, and what speaks against it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from shared.errors import ArtefactError, StorageError
from shared.model import Model
from shared.releases.artefact import Artefact
from shared.releases.blobs import BlobStore
from shared.releases.journal import Journal
from shared.releases.machine import Event, State
from shared.releases.manifest import Manifest, Void, read_manifest
from shared.releases.record import Accepted, Quarantine
from shared.releases.release import Release

MAX_QUARANTINED = 256
DEADLY = 3
"""Deaths in a row with a release that nothing has proved, and the release before serves again."""

Load = Callable[[Accepted, Manifest], Model]

log = logging.getLogger(__name__)


class Standing:
    """The committed releases of a channel.

    Args:
        channel: the channel.
        journal: its record.
        blobs: the files.
        load: loads the file that was chosen of a release; raises ``ArtefactError``.

    Attributes:
        model: what serves outside of a probation; None while there is nothing.
        release: the active one, while it is the model's.
        void: what was said last of that release's certificates; None where they are not void.
        has_leftovers: whether files of other releases may be there that nobody needs any more.
    """

    def __init__(self, channel: str, journal: Journal, blobs: BlobStore, load: Load) -> None:
        self.model: Model | None = None
        self.release: Release | None = None
        self.void: Void | None = None
        self.has_leftovers = True
        self._channel = channel
        self._journal = journal
        self._blobs = blobs
        self._load = load
        self._seen_before: int | None = None

    def start(self) -> None:
        """Loads the active release, or where it cannot serve the one before."""
        self._count_death()
        for accepted in self._journal.record.standing:
            if self.model is None:
                self._try(accepted)

    def commit(self, model: Model, manifest: Manifest) -> None:
        """Makes a manifest's release the one that serves. The record says so already."""
        self.model, self._seen_before = model, None
        self.release, self.void = manifest.release, manifest.void

    def marked(self, envelope: bytes) -> dict[str, Accepted]:
        """Returns how the record changes where a later manifest brings the release that serves.

        Args:
            envelope: the signed manifest, which says something else of the release's certificates.
        """
        record = self._journal.record
        name = "active" if self.damaged is None else "previous"
        kept = record.active if self.damaged is None else record.previous
        return {} if kept is None else {name: Accepted(envelope, kept.sha256)}

    @property
    def damaged(self) -> Accepted | None:
        """The active release, if something else serves in its place, or nothing does."""
        active, model = self._journal.record.active, self.model
        is_there = active is None or (model is not None and model.spec.sha256 == active.sha256)
        return None if is_there else active

    @property
    def files(self) -> list[Artefact]:
        """What serves or has served: what comes may have chunks in common with it."""
        found = []
        for accepted in self._journal.record.standing:
            try:
                release = read_manifest(accepted.envelope).release
                found.append(release.variant(accepted.sha256).artefact)
            except ArtefactError as error:
                log.warning("%s: %s", self._channel, error)
        return found

    def prune(self) -> None:
        """Deletes the files of all other releases, once they are leftovers."""
        if self.has_leftovers:
            self.has_leftovers = False
            self._blobs.prune({each.sha256 for each in self._journal.record.standing})

    def believe(self, samples: int, enough: int) -> None:
        """Takes the active release for proven once it has answered enough samples.

        Args:
            samples: that went through models since the node started.
            enough: so many prove it.
        """
        if self._journal.record.proven:
            return
        # What the model before it has answered proves nothing of this one.
        self._seen_before = samples if self._seen_before is None else self._seen_before
        if samples - self._seen_before >= enough:
            self._write(proven=True, deaths=0)

    def forgive(self) -> None:
        """Notes that the node stops on purpose: that speaks against no release."""
        if not self._journal.record.proven:
            self._write(deaths=0, stopped=True)

    def quarantine(self, accepted: Accepted) -> None:
        """Remembers, with the next write, that the files of a release have failed here."""
        try:
            manifest = read_manifest(accepted.envelope)
        except ArtefactError as error:
            log.error("%s: a manifest on the disk is unreadable: %s", self._channel, error)
            return
        digests = manifest.release.digests
        known = [each for each in self._journal.record.quarantined if each.sha256 not in digests]
        known += [Quarantine(each, manifest.retry_epoch) for each in digests]
        self._journal.assume(quarantined=tuple(known[-MAX_QUARANTINED:]))

    def _count_death(self) -> None:
        """Goes back to the release before if the node dies with an active one that nothing proved.

        A release that nothing tried in its probation was committed all the same.
        """
        record = self._journal.record
        if record.active is None or record.proven:
            return
        deaths = record.deaths if record.stopped else record.deaths + 1
        if deaths < DEADLY or record.previous is None:
            self._write(deaths=deaths, stopped=False)
            return
        reason = f"the node died {deaths} times with it, and nothing had proved it"
        log.error("%s: the release before serves again: %s", self._channel, reason)
        self.quarantine(record.active)
        back = {"active": record.previous, "previous": None, "proven": True, "deaths": 0}
        if record.state is State.COMMITTED:
            self._journal.settle(Event.FAIL, reason, **back)
        else:
            # The last update was another one, and keeps its end.
            self._write(**back)

    def _try(self, accepted: Accepted) -> None:
        try:
            manifest = read_manifest(accepted.envelope)
            artefact = manifest.release.variant(accepted.sha256).artefact
            if not self._blobs.has(artefact):
                raise ArtefactError(f"{artefact.sha256} is damaged or gone")
            self.commit(self._load(accepted, manifest), manifest)
        except ArtefactError as error:
            log.error("%s: a committed release cannot serve: %s", self._channel, error)

    def _write(self, **changes: Any) -> None:
        try:
            self._journal.write(**changes)
        except StorageError as error:
            log.error("%s: %s", self._channel, error)
            self._journal.assume(**changes)
