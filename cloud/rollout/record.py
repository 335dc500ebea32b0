"""What the cloud must not forget of a rollout: one file, replaced whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from cloud.record_file import read_record
from cloud.rollout.phases import Phase
from shared.durable import write_durably
from shared.messages import UNREADABLE
from shared.releases.machine import State
from shared.releases.manifest import Void
from shared.releases.rollout import Rollout

MAX_REASON = 200


class NodeCourse(msgspec.Struct, frozen=True, kw_only=True):
    """One node that the release was offered to.

    Attributes:
        wave: in which that was, from 0.
        offered_s: when; a node that is away is offered it when it comes back.
        outcome: how it ended; None while it has not.
        reason: why it ended so.
        ended_s: when the cloud saw that.
        superseded: it says SUPERSEDED: it let go of one manifest and has yet to take the next.
    """

    wave: int
    offered_s: float
    outcome: State | None = None
    reason: str = ""
    ended_s: float | None = None
    superseded: bool = False


@dataclass(frozen=True)
class Offer:
    """What the newest manifest of the channel has to say.

    Attributes:
        rollout: who takes part; None for everybody, under no rollout.
        halted: whether the release is halted.
        previous: whether it is the release from before the rollout, under a new seq.
    """

    rollout: Rollout | None
    halted: bool = False
    previous: bool = False


class RolloutRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout's memory. All times are seconds since 1970 by the cloud's clock.

    Those that are reckoned with (``offered_s``, ``since_s``, ``passed_s``) are moved on by what the
    cloud could not watch (``sight.py``).

    Attributes:
        id: of the rollout.
        channel: the channel.
        salt: decides which nodes come first.
        phase: where the rollout is.
        wave: the present one, from 0; no two of a rollout have one number, though the plan change.
        share: of the present wave.
        canaries: nodes that take part whatever the share, as ``site/node``.
        seq: of the manifest that carries the present offer; 0 while none does yet.
        since_s: when the wave's manifest was published; None while it is not.
        passed_s: since when enough of the wave's nodes have committed; None while they have not.
        nodes: who was offered the release, by ``site/node``.
        reason: why the rollout is where it is, in words.
        version: what is rolled out.
        base: the version from before it, which a rollback brings back; empty if there is none.
        retry_epoch: of its manifests; a greater one lets nodes try again what failed on them.
        began_s: when it began.
        number: greater than that of any rollout of the channel before it.
        seen_s: until when the cloud has watched it, at most ``sight.NOTED_EVERY_S`` behind; 0 if
            that was never noted.
        carried: whether the fleet ran the version as a whole when another took its place, though
            the rollout was not over (``proven.py``).
        voids: why a release's certificate is void, by version: of the one that is rolled out, and
            of the one from before it.
    """

    id: str
    channel: str
    salt: str
    share: float
    canaries: tuple[str, ...]
    wave: int = 0
    phase: Phase = Phase.RUNNING
    seq: int = 0
    since_s: float | None = None
    passed_s: float | None = None
    nodes: dict[str, NodeCourse] = {}
    reason: str = ""
    version: str = ""
    base: str = ""
    retry_epoch: int = 0
    began_s: float = 0.0
    number: int = 0
    seen_s: float = 0.0
    carried: bool = False
    voids: dict[str, Void] = {}

    @property
    def rollout(self) -> Rollout:
        """What its manifests say of who takes part."""
        return Rollout(id=self.id, salt=self.salt, share=self.share, nodes=self.canaries)

    @property
    def offer(self) -> Offer:
        """What the newest manifest has to say; if it says something else, a new seq is due."""
        if self.phase is Phase.ROLLED_BACK:
            return Offer(None, previous=True)
        return Offer(self.rollout, halted=self.phase in (Phase.HALTED, Phase.ABORTED))


def published(record: RolloutRecord, seq: int, now_s: float) -> RolloutRecord:
    """Returns the record once a manifest with its present offer is at the broker.

    The clocks of the wave start here. Said again, of the same seq, it changes nothing.

    Args:
        record: the rollout.
        seq: the manifest's.
        now_s: seconds since 1970.
    """
    since_s = now_s if record.since_s is None else record.since_s
    return msgspec.structs.replace(record, seq=seq, since_s=since_s)


class _Published(msgspec.Struct):
    seq: int = 0


def published_seq(path: Path) -> int:
    """Returns the seq in a rollout's file, however the rollout ended; 0 if it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Published).seq
    except (OSError, *UNREADABLE):
        return 0


class RolloutFile:
    """The file of a rollout's record.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> RolloutRecord | None:
        """Returns the record, None if there is none.

        Raises:
            StorageError: it cannot be read. Guessing where a rollout was could offer a release
                that was aborted, so nothing is begun in its place.
        """
        return read_record(
            self._path, RolloutRecord, "no record of a rollout",
            "Nodes go on as the last manifest says; move the file away and begin a new rollout",
        )  # fmt: skip

    def write(self, record: RolloutRecord) -> None:
        """Replaces the record.

        Raises:
            StorageError: it cannot be written; the old one still stands.
        """
        write_durably(self._path, msgspec.json.encode(record))
