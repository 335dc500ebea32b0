"""Which wave comes next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
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

    Of a fleet without nodes nobody can go first: the release is offered to all who come.

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
    number = _first_that_adds(plan, range(len(plan.waves)), fleet, nobody, named)
    return RolloutRecord(
        id=rollout,
        channel=channel,
        salt=salt,
        share=plan.waves[number].share,
        canaries=named,
        wave=number,
        reason=f"begins with wave {number + 1} of {len(plan.waves)}",
    )


def next_wave(record: RolloutRecord, plan: RolloutPlan, fleet: Fleet) -> int | None:
    """Returns which wave of the plan is next, from 0; None if this is the last.

    A wave that adds nobody, online or not, is skipped; the last is not. It is looked for by its
    share, so a plan may change in mid-rollout.

    Args:
        record: the rollout.
        plan: the waves.
        fleet: all nodes of the channel.
    """
    left = [number for number, wave in enumerate(plan.waves) if wave.share > record.share]
    if not left:
        return None
    return _first_that_adds(plan, left, fleet, record.rollout, record.canaries)


def at_wave(record: RolloutRecord, plan: RolloutPlan, number: int) -> dict[str, Any]:
    """Returns what changes in a record that enters a wave.

    Its number in the record is the plan's, unless a plan that was shortened meanwhile would give
    one again: the nodes of a wave are known by it.

    Args:
        record: the rollout.
        plan: the waves.
        number: in the plan, from 0.
    """
    return {
        "wave": max(number, record.wave + 1),
        "share": plan.waves[number].share,
        "since_s": None,
        "passed_s": None,
    }


def adds_nobody(record: RolloutRecord, plan: RolloutPlan, fleet: Fleet, number: int) -> bool:
    """Whether all nodes of a wave, online or not, take part already."""
    then = msgspec.structs.replace(record.rollout, share=plan.waves[number].share)
    return not _added(fleet, record.rollout, then)


def _first_that_adds(
    plan: RolloutPlan, numbers: Sequence[int], fleet: Fleet, now: Rollout, named: tuple[str, ...]
) -> int:
    """Returns the first wave that has a node to bring the release to, else the last.

    A node that is offline is one: where most of a fleet is away, a wave must not be everybody.
    """
    for number in numbers[:-1]:
        then = msgspec.structs.replace(now, share=plan.waves[number].share, nodes=named)
        if _added(fleet, now, then):
            return number
    return numbers[-1]


def _added(fleet: Fleet, now: Rollout, then: Rollout) -> list[FleetNode]:
    """Returns the nodes that take part then and not now."""
    return [
        node
        for node in fleet
        if takes_part(then, node.site, node.node) and not takes_part(now, node.site, node.node)
    ]
