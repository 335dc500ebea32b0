"""Brings a channel's rollout and its newest manifest together, once a second."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from cloud.channel import Channel, Ticket
from cloud.registry import Entry
from cloud.rollout.fleet import Fleet, ahead
from cloud.rollout.phases import Phase
from cloud.rollout.record import RolloutRecord, published
from cloud.rollout.sight import Sight
from cloud.rollout.step import step
from cloud.rollout.succession import refusal, standing
from cloud.rollout.voids import voided
from cloud.signer import Signer, Wanted
from cloud.version import TRAINER
from shared.errors import EscalonError, ManifestError, StorageError
from shared.releases.manifest import Void
from shared.releases.rollout import Rollout

STEP_S = 1.0
BACK = ".back"
"""Ends the id of what a rollback offers: no report on it counts for the rollout itself."""

log = logging.getLogger(__name__)


def new_ticket(now_s: float) -> Ticket:
    """Returns the ticket of a new rollout, with an id and a salt that nobody can foresee."""
    return Ticket(f"r-{secrets.token_hex(6)}", secrets.token_hex(6), now_s)


class Director:
    """Steps one channel's rollout, and signs what it has to say.

    The record comes first, then the manifest's file, then the broker, then the record of that. Cut
    off anywhere, it finds at the next turn what the newest manifest does not say yet.

    Args:
        channel: the channel.
        signer: signs its manifests.
        ticket: makes the ticket of a new rollout.

    Attributes:
        newest: the newest manifest, which is to be at the broker.
        record: the rollout, as it was at the last turn.
        trouble: what keeps it from going on, in words; empty for nothing.
    """

    def __init__(
        self, channel: Channel, signer: Signer, ticket: Callable[[float], Ticket] = new_ticket
    ) -> None:
        self.newest: Entry | None = None
        self.record: RolloutRecord | None = None
        self.trouble = ""
        self._channel = channel
        self._signer = signer
        self._ticket = ticket
        self._proposed: str | None = None
        self._waits_for = ""
        self._voiding: dict[str, Void] = {}
        self._sight = Sight()
        self._due_s = 0.0

    def start(self) -> None:
        """Reads what stands. A version of the trainer's that a crash kept from its rollout has it.

        Raises:
            StorageError: the disk does not give it.
        """
        channel, registry = self._channel, self._channel.registry
        self.newest = registry.newest(channel.name)
        try:
            self.record = channel.read()
        except StorageError as error:
            log.error("%s: %s", channel.name, error)
            return
        versions = registry.versions(channel.name)
        if versions and versions[-1].by == TRAINER and not self._was_offered(versions[-1].name):
            self._proposed = versions[-1].name

    @property
    def channel(self) -> Channel:
        """The channel that it directs."""
        return self._channel

    @property
    def standing(self) -> str:
        """The version that the fleet is to run; empty if there is none."""
        if self._proposed is not None and not self.refusal:
            return self._proposed
        return standing(self.record, self.newest.manifest.release.version if self.newest else "")

    @property
    def refusal(self) -> str:
        """Why no other rollout may begin by itself now; empty if one may."""
        return refusal(self.record, by_itself=True)

    def propose(self, version: str) -> None:
        """Has a rollout of a version begin at the next turn that can see the fleet.

        Args:
            version: in the registry. The one that is rolled out already changes nothing.
        """
        self._proposed = version
        self._due_s = 0.0

    def void(self, version: str, void: Void) -> None:
        """Has the manifest of a version say from the next turn on that its certificate is void.

        No rollout begins, and nothing is fetched: it is the same release under a new number. A
        rollout of another version ends it, and so does a person's of the same.

        Args:
            version: that is rolled out, or gone back to.
            void: why, and since when.
        """
        self._voiding = {version: void}
        self._due_s = 0.0

    def is_void(self, version: str) -> bool:
        """Whether it is written down that a version's certificate is void."""
        if self.record is not None:
            return version in self.record.voids
        newest = self.newest.manifest if self.newest else None
        return bool(newest and newest.void and newest.release.version == version)

    def due(self, monotonic_s: float) -> bool:
        """Whether a turn does anything now."""
        return monotonic_s >= self._due_s

    def turn(
        self, fleet: Fleet | None, published_seq: int, now_s: float, monotonic_s: float
    ) -> None:
        """Steps the rollout, signs what is to be said; once a second.

        Args:
            fleet: all nodes of the channel; None while the broker has not told all that it keeps.
            published_seq: of the newest manifest that the broker has; 0 for none.
            now_s: seconds since 1970.
            monotonic_s: the clock by which a step is due once a second, and which says what of
                the time since the last one was watched.
        """
        if not self.due(monotonic_s):
            return
        self._due_s = monotonic_s + STEP_S
        trouble = ""
        try:
            with self._channel.lock.held(wait_s=0.0) as is_held:
                if is_held:  # else a person has it, for a moment
                    self._step(fleet, published_seq, now_s, monotonic_s)
                    trouble = self._waits_for or self._outrun(fleet)
        except EscalonError as error:
            trouble = "; ".join(filter(None, [self._waits_for, str(error)]))
        if trouble and trouble != self.trouble:
            log.error("%s: %s", self._channel.name, trouble)
        self.trouble = trouble

    def _step(
        self, fleet: Fleet | None, published_seq: int, now_s: float, monotonic_s: float
    ) -> None:
        try:
            record = self._channel.read()
        except StorageError:
            # Nodes must not see a manifest expire because of it.
            self._renew(None, now_s)
            raise
        record = self._voided(record)
        if fleet is not None:
            record = self._begin(record, fleet, now_s)
            record = self._stepped(record, fleet, now_s, monotonic_s)
            self._sight.note(now_s, monotonic_s)
        self.record = record
        self._renew(record, now_s)
        if record is not None and self._says_so(record, published_seq):
            self.record = self._kept(record, published(record, published_seq, now_s))

    def _begin(
        self, record: RolloutRecord | None, fleet: Fleet, now_s: float
    ) -> RolloutRecord | None:
        """Begins the rollout that is proposed, if one is and may."""
        version, self._waits_for = self._proposed, ""
        if version is None:
            return record
        if record is not None and record.version == version:
            self._proposed = None
            return record
        try:
            ticket = self._ticket(now_s)
            begun = self._channel.offer(version, fleet, ticket, by_itself=True).record
        except EscalonError as error:
            # Tried again: a person has stopped the one before, nobody is online yet, or the disk
            # fails. Whatever it is, the one before is not let go of: it may do harm.
            self._waits_for = f"version {version} waits: {error}"
            return self._channel.read()
        self._proposed = None
        log.info("%s: rollout of version %s %s", self._channel.name, version, begun.reason)
        return begun

    def _stepped(
        self, record: RolloutRecord | None, fleet: Fleet, now_s: float, monotonic_s: float
    ) -> RolloutRecord | None:
        if record is None:
            return None
        resumed = self._sight.resumed(record, now_s, monotonic_s)
        decision = step(resumed, self._channel.plan, fleet, now_s)
        if decision.event is not None:
            log.info("%s: %s: %s", self._channel.name, decision.event.value, decision.reason)
        return self._kept(record, decision.record)

    def _voided(self, record: RolloutRecord | None) -> RolloutRecord | None:
        """Writes down whose certificate is void. Without a rollout, the manifest itself is that."""
        if record is None:
            return None
        for version, void in self._voiding.items():
            record = self._kept(record, voided(record, version, void))
        self._voiding = {}
        return record

    def _kept(self, before: RolloutRecord, record: RolloutRecord) -> RolloutRecord:
        if record != before:
            self._channel.write(record)
        return record

    def _renew(self, record: RolloutRecord | None, now_s: float) -> None:
        """Signs another manifest where the newest does not say what it has to."""
        wanted = self._wanted(record)
        if wanted is None:
            return
        why = self._signer.why_due(self.newest, wanted, now_s)
        if record is not None and self.newest and self.newest.manifest.seq < record.seq:
            why = why or f"seq {record.seq} is lost"
        if not why:
            return
        registry, name = self._channel.registry, self._channel.name
        seq = self._channel.next_seq()
        envelope = self._signer.sign(wanted, seq, now_s, self.newest)
        self.newest = registry.add_manifest(envelope)
        log.info("%s: signed seq %d, version %s: %s", name, seq, wanted.release.version, why)

    def _wanted(self, record: RolloutRecord | None) -> Wanted | None:
        """Returns what the newest manifest has to say; None if there is nothing to say."""
        if record is None:
            return self._wanted_anew()
        offer, name = record.offer, self._channel.name
        version = record.base if offer.previous else record.version
        found = self._channel.registry.version(name, version)
        if found is None:
            raise ManifestError(
                f"version {version} of {name} is damaged or gone, so its rollout cannot go on; "
                "the last manifest stands. Fix: publish it anew, or offer another version"
            )
        everybody = Rollout(id=f"{record.id}{BACK}", salt=record.salt, share=1.0)
        state: Literal["active", "halted"] = "halted" if offer.halted else "active"
        return Wanted(
            channel=name,
            state=state,
            release=found.release,
            rollout=offer.rollout or everybody,
            retry_epoch=record.retry_epoch,
            void=record.voids.get(version),
        )

    def _wanted_anew(self) -> Wanted | None:
        """Returns what the newest manifest says already, but for a certificate that is void now."""
        if self.newest is None:
            return None
        wanted = Wanted.of(self.newest.manifest)
        void = self._voiding.get(wanted.release.version, wanted.void)
        return replace(wanted, void=void)

    def _says_so(self, record: RolloutRecord, published_seq: int) -> bool:
        """Whether the broker has a manifest of the present offer that the record knows not of."""
        newest = self.newest
        return (
            newest is not None
            and published_seq == newest.manifest.seq != record.seq
            and Wanted.of(newest.manifest) == self._wanted(record)
        )

    def _outrun(self, fleet: Fleet | None) -> str:
        return ahead(fleet or (), self.newest.manifest.order if self.newest else (0, 0))

    def _was_offered(self, version: str) -> bool:
        record = self.record
        if record is not None and version in (record.version, record.base):
            return True
        return version in self._channel.registry.offered(self._channel.name)

    @property
    def activity(self) -> str:
        """What the rollout is doing, in words; empty while there is nothing to say."""
        name, record = self._channel.name, self.record
        if self.trouble:
            return f"{name}: {self.trouble}"
        if record is None or record.phase is Phase.COMPLETED:
            return ""
        return f"{name}: version {record.version} {record.phase.value}"
