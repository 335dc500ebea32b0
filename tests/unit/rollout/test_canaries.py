"""One node of each hardware class goes first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloud.rollout.fleet import FleetNode, canaries
from cloud.rollout.plan import RolloutPlan
from shared.errors import ManifestError
from shared.releases.rollout import MAX_NAMED_NODES, place
from tests.unit.rollout.fleets import SALT, Fleet, begun, fleet

PLAN = RolloutPlan()


def hardware_of(names: tuple[str, ...], nodes: Fleet) -> list[str]:
    return sorted(each.hardware for each in nodes.nodes if each.name in names)


def test_there_is_one_of_each_class() -> None:
    nodes = Fleet("arm", "x86", "arm", "riscv", "x86", "arm")
    assert hardware_of(canaries(PLAN, nodes.nodes, SALT), nodes) == ["arm", "riscv", "x86"]


def test_they_do_not_depend_on_the_order_of_the_fleet() -> None:
    nodes = Fleet(*["arm", "x86"] * 20)
    chosen = canaries(PLAN, nodes.nodes, SALT)
    assert canaries(PLAN, nodes.nodes[::-1], SALT) == chosen


def test_the_first_of_a_class_by_its_place_is_taken() -> None:
    nodes = fleet(20)
    first = min(nodes.nodes, key=lambda each: place(SALT, each.site, each.node))
    assert canaries(PLAN, nodes.nodes, SALT) == (first.name,)


def test_a_node_that_is_online_comes_before_one_that_is_not() -> None:
    nodes = fleet(20)
    nodes.goes(*range(20), online=False)
    nodes.goes(13, online=True)
    assert canaries(PLAN, nodes.nodes, SALT) == ("plant/node-13",)


def test_a_class_of_which_nobody_is_online_has_its_canary_all_the_same() -> None:
    nodes = Fleet("arm", "x86")
    nodes.goes(1, online=False)
    assert canaries(PLAN, nodes.nodes, SALT) == ("plant/node-0", "plant/node-1")


@pytest.mark.parametrize(("each", "expected"), [(0, 0), (2, 5), (3, 6), (10, 6)])
def test_a_plan_may_ask_for_several_of_a_class(each: int, expected: int) -> None:
    nodes = Fleet("arm", "arm", "arm", "x86", "x86", "riscv")
    plan = RolloutPlan(canaries_per_class=2).model_copy(update={"canaries_per_class": each})
    assert len(canaries(plan, nodes.nodes, SALT)) == expected


def test_of_more_classes_than_a_manifest_can_name_the_largest_have_theirs() -> None:
    nodes = Fleet(*[f"class-{i}" for i in range(300)], "class-299")
    chosen = canaries(PLAN, nodes.nodes, SALT)
    assert len(chosen) == MAX_NAMED_NODES
    assert "class-299" in hardware_of(chosen, nodes)


def test_a_name_that_no_manifest_can_hold_begins_no_rollout() -> None:
    nodes = fleet(1)
    nodes.nodes = [replace(nodes.nodes[0], node="a/b")]
    with pytest.raises(ManifestError, match="'plant/a/b', which is not site/node"):
        begun(PLAN, nodes)


def test_a_node_says_its_name_with_its_site() -> None:
    assert FleetNode("plant-a", "press-3").name == "plant-a/press-3"
