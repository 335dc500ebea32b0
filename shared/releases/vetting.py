"""Whether a signed manifest counts: by the trust in force, the channel's order, and the time."""

from __future__ import annotations

from collections.abc import Callable

from shared.errors import ArtefactError
from shared.releases.clock import not_before
from shared.releases.journal import Journal
from shared.releases.machine import BEFORE_THE_SWAP
from shared.releases.manifest import Manifest, open_manifest, read_manifest
from shared.releases.ruling import check_epoch, check_order
from shared.releases.trust import Trusts
from shared.releases.update import Update


class Vetting:
    """Holds manifests against what is known now.

    Args:
        channel: that is followed.
        trusts: whose signatures count.
        journal: what was accepted before.
        clock: seconds since 1970, as far as the machine knows.
    """

    def __init__(
        self, channel: str, trusts: Trusts, journal: Journal, clock: Callable[[], float]
    ) -> None:
        self._channel = channel
        self._trusts = trusts
        self._journal = journal
        self._clock = clock
        self._latest: bytes | None = None

    def open(self, envelope: bytes) -> Manifest:
        """Returns what was signed, if it is genuine, of this channel and not older than it may be.

        Raises:
            ArtefactError: it is not.
        """
        trust = self._trusts.current
        manifest = open_manifest(envelope, trust.releases)
        check_order(manifest, trust, self._journal.record, self._channel)
        self._latest = envelope
        return manifest

    def was_accepted(self, envelope: bytes) -> bool:
        """Whether it is the newest manifest that was accepted, under the keys of then.

        After a change of the keys a broker has it until the cloud has signed it anew.
        """
        record = self._journal.record
        known = [each.envelope for each in (record.active, record.pending) if each is not None]
        if envelope not in (self._latest, *known):
            return False
        try:
            # Equal bytes were verified once, so they may be read.
            return read_manifest(envelope).order == record.order
        except ArtefactError:
            return False  # accepted by a newer Escalon

    def look_again(self, update: Update) -> None:
        """Refuses what is not yet in place if its keys were revoked since. What runs goes on.

        Raises:
            ArtefactError: the document in force does not trust it.
        """
        trust, state = self._trusts.current, self._journal.record.state
        is_looked_at = trust is update.trust or state not in BEFORE_THE_SWAP
        # What had been committed, and was lost by the disk, was trusted when it was.
        if is_looked_at or update.repairs:
            return
        open_manifest(update.accepted.envelope, trust.releases)
        check_epoch(update.manifest, trust)
        update.trust = trust

    def utc_s(self) -> float:
        """Returns seconds since 1970, never earlier than is known for sure.

        What was accepted in an older key epoch tells nothing: a thief may have signed it.
        """
        record = self._journal.record
        is_of_epoch = record.key_epoch == self._trusts.current.key_epoch
        return not_before(self._clock(), record.issued if is_of_epoch else 0.0)
