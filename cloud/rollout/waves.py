"""Which wave comes next. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from cloud.rollout.fleet import Fleet, FleetNode, canaries
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.record import RolloutRecord
from shared.errors import ManifestError
from shared.releases.rollout import Rollout, takes_part


def begin(
    plan: RolloutPlan, fleet: Fleet, *, rollout: str, channel: str, salt: str
) -> RolloutRecord:
    """Returns a rollout at its beginning, with no manifest yet.

    Of a fleet without a node that is online nobody can go first: the release is offered to all
    who come.

    Args:
        plan: the waves.
        fleet: all nodes of the channel.
        rollout: a new id.
        channel: the channel.
        salt: decides which nodes come first; a new one for each rollout spreads the risk.

    Raises:
        ManifestError: id, salt or a node's name cannot stand in a manifest.
    """
    named = canaries(plan, fleet, salt)
    nobody = Rollout(id=rollout, salt=salt, share=0.0)
    if problems := msgspec.structs.replace(nobody, nodes=named).problems():
        raise ManifestError("; ".join(problems))
    number = _first_that_adds(plan, list(range(len(plan.waves))), fleet, nobody, named)
    return RolloutRecord(
        id=rollout,
        channel=channel,
        salt=salt,
        share=plan.wave(number).share,
        canaries=named,
        wave=number,
        reason=f"begins with wave {number + 1} of {len(plan.waves)}",
    )


def next_wave(record: RolloutRecord, plan: RolloutPlan, fleet: Fleet) -> int | None:
    """Returns the number of the next wave, from 0; None if this is the last.

    A wave that adds nobody who is online would prove nothing and is skipped; the last is not. It is
    looked for by its share, so a plan may change between two waves.

    Args:
        record: the rollout.
        plan: the waves.
        fleet: all nodes of the channel.
    """
    left = [number for number, wave in enumerate(plan.waves) if wave.share > record.share]
    if not left:
        return None
    return _first_that_adds(plan, left, fleet, record.rollout, record.canaries)


def at_wave(plan: RolloutPlan, number: int) -> dict[str, Any]:
    """Returns what changes in a record that enters a wave.

    Args:
        plan: the waves.
        number: from 0.
    """
    return {
        "wave": number,
        "share": plan.wave(number).share,
        "since_s": None,
        "passed_s": None,
    }


def adds_nobody(record: RolloutRecord, plan: RolloutPlan, fleet: Fleet, number: int) -> bool:
    """Whether all nodes of a wave, online or not, take part already."""
    then = msgspec.structs.replace(record.rollout, share=plan.wave(number).share)
    return not _added(fleet, record.rollout, then)


def _first_that_adds(
    plan: RolloutPlan, numbers: list[int], fleet: Fleet, now: Rollout, named: tuple[str, ...]
) -> int:
    """Returns the first wave that brings the release to a node that is online, else the last."""
    for number in numbers[:-1]:
        then = msgspec.structs.replace(now, share=plan.wave(number).share, nodes=named)
        if any(node.online for node in _added(fleet, now, then)):
            return number
    return numbers[-1]


def _added(fleet: Fleet, now: Rollout, then: Rollout) -> list[FleetNode]:
    """Returns the nodes that take part then and not now."""
    return [
        node
        for node in fleet
        if takes_part(then, node.site, node.node) and not takes_part(now, node.site, node.node)
    ]
