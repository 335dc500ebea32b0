"""A channel's rollout on the disk, under a lock: the cloud node and people act on the same file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cloud.channel_lock import ChannelLock
from cloud.registry import Registry
from cloud.rollout.decision import Decision, move
from cloud.rollout.fleet import Fleet
from cloud.rollout.phases import ENDED, TAKEN_BACK, Event, IllegalCommandError, Phase, possible
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.proven import is_carried, proven
from cloud.rollout.record import RolloutFile, RolloutRecord, published_seq
from cloud.rollout.voids import inherited
from cloud.rollout.waves import begin
from shared.durable import write_durably
from shared.errors import StorageError

MAX_ARCHIVED = 50

log = logging.getLogger(__name__)


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
        self._archived = folder / name
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
        self._check_fleet(fleet)
        begin(self.plan, fleet, rollout="new", channel=self.name, salt="new")

    def next_seq(self) -> int:
        """Returns the number after the highest that anything here says was ever given.

        Where the registry comes from a backup, the rollouts may know of later ones.
        """
        rollouts = [self._path, *self._archived.glob("*.json")]
        return max(
            self.registry.next_seq(self.name), *(published_seq(each) + 1 for each in rollouts)
        )

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
        self._check_fleet(fleet)
        record = begin(
            self.plan, fleet, rollout=ticket.rollout, channel=self.name, salt=ticket.salt
        )
        if before is not None and before.phase is Phase.RUNNING:
            reason = f"superseded by version {version} in rollout {ticket.rollout}"
            carried = is_carried(before, self.plan, fleet)
            before = move(before, Event.REPLACE, reason, carried=carried).record
        base = proven(self._history(before), version)
        record = msgspec.structs.replace(
            record,
            version=version,
            base=base,
            retry_epoch=self._retry_epoch(before) + retry,
            began_s=ticket.now_s,
            number=next((each.number for each in self._history(before)), 0) + 1,
            voids=inherited(self._history(before), base),
        )
        if before is not None:
            self._archive(before)
        self.write(record)
        return Decision(None, record, record.reason)

    def _check_fleet(self, fleet: Fleet) -> None:
        """Refuses a fleet of which nobody could go first."""
        if fleet and len(self.plan.waves) > 1 and not any(node.online for node in fleet):
            raise IllegalCommandError(
                f"none of the {len(fleet)} nodes of {self.name} is online, so none could go first; "
                "wait until one is"
            )
        if not fleet and self.next_seq() > 1:
            raise IllegalCommandError(
                f"no node of {self.name} is known, though releases were published: another would "
                "go to everybody at once; wait until the cloud node has heard of the fleet, see "
                "`escalon release status`"
            )

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
                f"{decision.record.version}; possible: {_way_out(before.phase)}"
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

    def _archive(self, before: RolloutRecord) -> None:
        """Keeps how the rollout before ended; of very many, the latest."""
        write_durably(self._archived / f"{before.id}.json", msgspec.json.encode(before))
        kept = sorted(self._archived.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for path in kept[:-MAX_ARCHIVED]:
            path.unlink(missing_ok=True)

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
        found = []
        for path in self._archived.glob("*.json"):
            try:
                record = RolloutFile(path).read()
            except StorageError as error:
                log.warning("left out of the rollouts before: %s", error)
                continue
            if record is not None:
                found.append(record)
        yield from sorted(found, key=lambda each: (each.number, each.began_s), reverse=True)


ANOTHER = "publish or offer a version that you trust"


def _way_out(phase: Phase) -> str:
    """Returns what takes the place of a roll back that has nothing to bring back."""
    if phase is Phase.PAUSED:
        return f"halt, then {ANOTHER}"
    if phase is Phase.HALTED or (phase in ENDED and phase is not Phase.COMPLETED):
        return ANOTHER
    return f"halt, or {ANOTHER}"


def refusal(record: RolloutRecord | None, *, by_itself: bool = False) -> str:
    """Returns why a rollout may not be followed by another now; empty if it may.

    One that a person has halted, and that has nothing to go back to, a person may replace: there is
    no other way out but to go on with it.

    Args:
        record: the present one.
        by_itself: whether no person has asked for the other.
    """
    if record is None or record.phase is Phase.RUNNING or record.phase in ENDED:
        return ""
    ways = possible(record.phase, has_base=bool(record.base))
    if record.phase is Phase.HALTED and not record.base:
        if not by_itself:
            return ""
        ways += f"; {ANOTHER}"
    return (
        f"the rollout of version {record.version} is {record.phase.value}, and whoever did that "
        f"decides first; possible: {ways}"
    )


def standing(record: RolloutRecord | None, published: str) -> str:
    """Returns the version that the fleet is to run; empty if there is none.

    Args:
        record: the present rollout.
        published: version of the newest manifest.
    """
    if record is None:
        return published
    if record.phase in TAKEN_BACK:
        return record.base or record.version
    return record.version
