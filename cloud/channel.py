"""A channel's rollout on the disk, under a lock: the cloud node and people act on the same file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cloud.channel_lock import ChannelLock
from cloud.registry import Registry
from cloud.rollout.archive import RolloutArchive
from cloud.rollout.decision import Decision
from cloud.rollout.fleet import Fleet
from cloud.rollout.phases import ENDED, TAKEN_BACK, IllegalCommandError, Phase
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.proven import proven
from cloud.rollout.record import RolloutFile, RolloutRecord, published_seq
from cloud.rollout.succession import check_first, refusal, standing, superseded, way_out
from cloud.rollout.voids import inherited
from cloud.rollout.waves import begin
from shared.errors import StorageError


@dataclass(frozen=True)
class Ticket:
    """What tells a new rollout from every other.

    Attributes:
        rollout: its id.
        salt: decides which nodes come first.
        now_s: seconds since 1970.
    """

    rollout: str
    salt: str
    now_s: float


class Channel:
    """The rollout of one channel.

    Whoever calls a method that writes holds its lock: ``with channel.lock.claimed():``.

    Args:
        name: the channel.
        plan: how its releases reach the fleet.
        folder: of all channels' rollouts.
        registry: versions and manifests.

    Attributes:
        lock: held by whoever decides.
    """

    def __init__(self, name: str, plan: RolloutPlan, folder: Path, registry: Registry) -> None:
        self.name = name
        self.plan = plan
        self.registry = registry
        self.lock = ChannelLock(folder / f"{name}.lock", f"the rollout of {name}")
        self._path = folder / f"{name}.json"
        self._archive = RolloutArchive(folder / name)
        self._file = RolloutFile(self._path)

    def read(self) -> RolloutRecord | None:
        """Returns the rollout, None if there was never one.

        Raises:
            StorageError: it cannot be read.
        """
        return self._file.read()

    def write(self, record: RolloutRecord) -> None:
        """Replaces the rollout's record.

        Raises:
            StorageError: it cannot be written; the old one still stands.
        """
        self._file.write(record)

    def parent(self) -> str:
        """Returns the version that a new one is taken to be made from, unless somebody says else.

        That is what the fleet is to run, and never what was aborted, rolled back or halted.

        Raises:
            StorageError: the disk does not give it.
        """
        record = self.read()
        if record is not None and record.phase in (*TAKEN_BACK, Phase.HALTED):
            return record.base
        return standing(record, self._published())

    def standing(self) -> str:
        """Returns the version that the fleet is to run once all is done; empty if there is none.

        Raises:
            StorageError: the disk does not give it.
        """
        return standing(self.read(), self._published())

    def check(self, fleet: Fleet) -> None:
        """Refuses now what ``offer`` would refuse of every version.

        Args:
            fleet: all nodes of the channel.

        Raises:
            IllegalCommandError, ManifestError, StorageError: as ``offer``.
        """
        if reason := refusal(self.read()):
            raise IllegalCommandError(reason)
        self._check_first(fleet)
        begin(self.plan, fleet, rollout="new", channel=self.name, salt="new")

    def next_seq(self) -> int:
        """Returns the number after the highest that anything here says was ever given.

        Where the registry comes from a backup, the rollouts may know of later ones.
        """
        rollouts = max(published_seq(self._path), self._archive.last_seq())
        return max(self.registry.next_seq(self.name), rollouts + 1)

    def offer(
        self,
        version: str,
        fleet: Fleet,
        ticket: Ticket,
        *,
        retry: bool = False,
        by_itself: bool = False,
    ) -> Decision:
        """Begins a rollout; one that runs ends superseded.

        Args:
            version: in the registry.
            fleet: all nodes of the channel.
            ticket: of the new rollout.
            retry: whether nodes are to try again what failed on them, though a person stopped it.
            by_itself: whether no person has asked for it.

        Raises:
            IllegalCommandError: somebody has paused or halted the rollout before it (``refusal``),
                or nobody could go first: no node is online, or none is known though there was a
                release.
            ManifestError: a node's name cannot stand in a manifest.
            StorageError: there is no such version, or the disk fails.
        """
        before = self.read()
        if (reason := refusal(before, by_itself=by_itself)) and not retry:
            raise IllegalCommandError(reason)
        if self.registry.version(self.name, version) is None:
            raise StorageError(
                f"{self.name} has no version {version}. Fix: see `escalon release list`"
            )
        self._check_first(fleet)
        begun = begin(self.plan, fleet, rollout=ticket.rollout, channel=self.name, salt=ticket.salt)
        record = msgspec.structs.replace(
            begun,
            version=version,
            retry_epoch=self._retry_epoch(before) + retry,
            began_s=ticket.now_s,
        )
        if before is not None:
            before = superseded(before, record, self.plan, fleet)
        record = self._following(record, before)
        if before is not None:
            self._archive.keep(before)
        self.write(record)
        return Decision(None, record, record.reason)

    def _following(self, record: RolloutRecord, before: RolloutRecord | None) -> RolloutRecord:
        """Returns a new rollout with what it has from those before it."""
        base = proven(self._history(before), record.version)
        return msgspec.structs.replace(
            record,
            base=base,
            number=next((each.number for each in self._history(before)), 0) + 1,
            voids=inherited(self._history(before), base),
        )

    def _check_first(self, fleet: Fleet) -> None:
        check_first(self.plan, fleet, self.name, has_released=self.next_seq() > 1)

    def retry(self, fleet: Fleet, ticket: Ticket) -> Decision:
        """Begins a rollout of the same version, which nodes try again where it failed on them.

        Raises:
            IllegalCommandError: there is no rollout, or it is still on offer.
            StorageError: the disk fails.
        """
        before = self._known()
        if before.phase not in (*ENDED, Phase.HALTED):
            raise IllegalCommandError(
                f"'retry' is not possible: the rollout is {before.phase.value}; halt it first"
            )
        return self.offer(before.version, fleet, ticket, retry=True)

    def command(self, decide: Callable[[RolloutRecord], Decision]) -> Decision:
        """Does to the rollout what a person says.

        Args:
            decide: one of ``rollout/commands.py``.

        Raises:
            IllegalCommandError: the rollout's phase does not allow it, or there is no rollout.
            StorageError: the disk fails.
        """
        before = self._known()
        decision = decide(before)
        if decision.record.offer.previous and not decision.record.base:
            raise IllegalCommandError(
                f"'roll back' is not possible: {self.name} has no release from before version "
                f"{decision.record.version}; possible: {way_out(before.phase)}"
            )
        self.write(decision.record)
        return decision

    def _known(self) -> RolloutRecord:
        record = self.read()
        if record is None:
            raise IllegalCommandError(
                f"{self.name} has no rollout; begin one with `escalon release publish` or `offer`"
            )
        return record

    def _published(self) -> str:
        newest = self.registry.newest(self.name)
        return newest.manifest.release.version if newest else ""

    def _retry_epoch(self, before: RolloutRecord | None) -> int:
        newest = self.registry.newest(self.name)
        return max(
            before.retry_epoch if before else 0, newest.manifest.retry_epoch if newest else 0
        )

    def history(self) -> Iterator[RolloutRecord]:
        """Yields the rollouts so far, newest first: the present one and the latest of those before.

        Raises:
            StorageError: the present one cannot be read.
        """
        return self._history(self.read())

    def _history(self, before: RolloutRecord | None) -> Iterator[RolloutRecord]:
        """Yields the rollouts so far, newest first; the archive is read only if it is asked for."""
        if before is not None:
            yield before
        yield from self._archive.read()
