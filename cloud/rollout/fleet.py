"""What the cloud knows of the nodes that follow a channel. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cloud.rollout.plan import RolloutPlan
from shared.releases.machine import State
from shared.releases.rollout import MAX_NAMED_NODES, place, qualified


@dataclass(frozen=True)
class NodeReport:
    """What a node said last of an update.

    Attributes:
        rollout: id of the rollout that the update belongs to; empty for none.
        state: where it is, or how it ended.
        reason: why, in the node's words.
        time_s: when it said so by its own clock, seconds since 1970. Shown, never reckoned with.
        order: key epoch and seq of the manifest.
    """

    rollout: str
    state: State
    reason: str = ""
    time_s: float = 0.0
    order: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class FleetNode:
    """A node that follows the channel.

    Attributes:
        site: its site.
        node: its name there.
        hardware: its hardware class, as its info says.
        online: whether it is there, by its birth and its last will.
        report: its last report on the channel; None for none.
    """

    site: str
    node: str
    hardware: str = ""
    online: bool = True
    report: NodeReport | None = None

    @property
    def name(self) -> str:
        """Its name across all sites."""
        return qualified(self.site, self.node)

    def report_on(self, rollout: str) -> NodeReport | None:
        """Returns its report if it is on this rollout."""
        return self.report if self.report and self.report.rollout == rollout else None


Fleet = Sequence[FleetNode]


def canaries(plan: RolloutPlan, fleet: Fleet, salt: str) -> tuple[str, ...]:
    """Returns who goes first: the first of each hardware class in the rollout's order.

    Nodes that are online come before those that are not. Where there are more classes than a
    manifest may name nodes, the largest classes have theirs.

    Args:
        plan: how many of each class.
        fleet: all nodes.
        salt: the rollout's.
    """
    classes: defaultdict[str, list[FleetNode]] = defaultdict(list)
    for node in fleet:
        classes[node.hardware].append(node)
    chosen: list[str] = []
    for _, members in sorted(classes.items(), key=lambda each: (-len(each[1]), each[0])):
        first = sorted(
            members, key=lambda each: (not each.online, place(salt, each.site, each.node))
        )
        chosen += [each.name for each in first[: plan.canaries_per_class]]
    return tuple(sorted(chosen[:MAX_NAMED_NODES]))


def ahead(fleet: Fleet, newest: tuple[int, int]) -> str:
    """Returns what is wrong if nodes have a later manifest than the cloud, empty if none has.

    The cloud keeps a manifest before it publishes it, so that it has lost what it once signed: its
    disk comes from a backup. Nodes refuse the numbers that it gives again. Their reports are not
    signed, so that nobody's number is taken for the next.

    Args:
        fleet: all nodes of the channel.
        newest: key epoch and seq of the newest manifest that the cloud knows.
    """
    reports = [(node.report.order, node.name) for node in fleet if node.report]
    later = sorted((each for each in reports if each[0] > newest), reverse=True)
    if not later:
        return ""
    (epoch, seq), name = later[0]
    others = f" (one of {len(later)} nodes that are ahead)" if later[1:] else ""
    return (
        f"{name} has the manifest seq {seq} of key epoch {epoch}{others}, the newest here is seq "
        f"{newest[1]} of key epoch {newest[0]}: is this disk from a backup? Nodes refuse every "
        "number that they have passed. Fix: begin a new key epoch, in which numbers begin anew: "
        "`escalon keys revoke`, then name the new trust file in the cloud's YAML; see "
        "docs/releases.md"
    )
