"""Small fleets by hand, and a rollout among them."""

from __future__ import annotations

from dataclasses import replace

from cloud.rollout.fleet import FleetNode, NodeReport
from cloud.rollout.plan import RolloutPlan, Wave
from cloud.rollout.record import RolloutRecord, published
from cloud.rollout.waves import begin
from shared.releases.machine import State

ROLLOUT = "meter-7"
SALT = "salt"
AT_ONCE = RolloutPlan(waves=(Wave(share=1),), canaries_per_class=0)
"""One wave of everybody."""


class Fleet:
    """Nodes ``plant/node-0`` and so on.

    Args:
        hardware: class of each.
    """

    def __init__(self, *hardware: str) -> None:
        self.nodes = [FleetNode("plant", f"node-{i}", each) for i, each in enumerate(hardware)]

    def says(self, state: State, *numbers: int, reason: str = "", rollout: str = ROLLOUT) -> None:
        for number in numbers:
            report = NodeReport(rollout, state, reason)
            self.nodes[number] = replace(self.nodes[number], report=report)

    def goes(self, *numbers: int, online: bool) -> None:
        for number in numbers:
            self.nodes[number] = replace(self.nodes[number], online=online)


def fleet(size: int) -> Fleet:
    return Fleet(*["arm"] * size)


def begun(plan: RolloutPlan, nodes: Fleet) -> RolloutRecord:
    return begin(plan, nodes.nodes, rollout=ROLLOUT, channel="meter", salt=SALT)


def out(plan: RolloutPlan, nodes: Fleet, now_s: float = 0.0) -> RolloutRecord:
    """Returns a rollout whose first manifest is published."""
    return published(begun(plan, nodes), 1, now_s)
