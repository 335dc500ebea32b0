"""How far the nodes that are online have come to the version that is to stand. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud.director import BACK
from cloud.fleet_view import NodeEntry, fleet_of
from cloud.rollout.phases import Phase
from cloud.rollout.record import RolloutRecord
from cloud.rollout.tally import shown
from shared.releases.machine import ENDS, UNDER_WAY, State
from shared.releases.rollout import qualified


@dataclass(frozen=True)
class Arrival:
    """Where the nodes are that are online.

    Attributes:
        version: that they are to run; empty while that is open.
        there: so many run it.
        coming: who has yet to come to it.
        failed: who ended without it, with the state.
    """

    version: str
    there: int = 0
    coming: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether all that are online run it, and somebody does."""
        return self.there > 0 and not self.coming and not self.failed

    @property
    def is_over(self) -> bool:
        """Whether nothing more is expected: of nodes that are all away, everything is."""
        return not self.coming and self.there + len(self.failed) > 0

    def in_words(self) -> str:
        """Returns for example ``2 of 3 online nodes run version 1``."""
        online = self.there + len(self.coming) + len(self.failed)
        said = f"{self.there} of {online} online nodes run version {self.version}"
        return f"{said}; without it: {shown(list(self.failed))}" if self.failed else said


def arrival(record: RolloutRecord, nodes: Sequence[NodeEntry]) -> Arrival:
    """Returns how far the nodes have come that a rollout's end has been made known to.

    Args:
        record: the rollout.
        nodes: the whole fleet.
    """
    if record.phase is Phase.ROLLED_BACK:
        version, offer = record.base, f"{record.id}{BACK}"
    else:
        version, offer = record.version, record.id
    online = {node.name for node in fleet_of(nodes, record.channel) if node.online}
    there, coming, failed = 0, [], []
    for node in nodes:
        name, update = qualified(node.site, node.node), node.updates.get(record.channel)
        if name not in online:
            continue
        state = update.state if update else State.IDLE
        if node.runs.get(record.channel) == version and state not in UNDER_WAY:
            there += 1
        elif update and update.rollout == offer and state in ENDS and state is not State.COMMITTED:
            failed.append(f"{name} ({state})")
        else:
            coming.append(name)
    return Arrival(version, there, tuple(coming), tuple(failed))
