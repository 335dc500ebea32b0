"""A cloud that has forgotten what it signed hears of it from its nodes, and says so."""

from __future__ import annotations

import pytest

from cloud.rollout.fleet import FleetNode, NodeReport, ahead
from shared.releases.machine import State

NEWEST = (2, 40)


def node(name: str, order: tuple[int, int] | None, *, online: bool = True) -> FleetNode:
    report = None if order is None else NodeReport("r-1", State.COMMITTED, order=order)
    return FleetNode("plant", name, online=online, report=report)


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(None, id="never-reported"),
        pytest.param((0, 0), id="before-its-first-manifest"),
        pytest.param((2, 39), id="one-behind"),
        pytest.param((2, 40), id="level"),
        pytest.param((1, 999), id="of-a-key-epoch-that-has-ended"),
    ],
)
def test_a_node_that_has_nothing_later_is_no_trouble(order: tuple[int, int] | None) -> None:
    assert ahead([node("press-1", order)], NEWEST) == ""


@pytest.mark.parametrize("order", [(2, 41), (3, 1)], ids=["seq", "key-epoch"])
@pytest.mark.parametrize("online", [True, False], ids=["online", "offline"])
def test_a_node_that_is_ahead_is_named_with_what_to_do(
    order: tuple[int, int], online: bool
) -> None:
    said = ahead([node("press-1", (2, 40)), node("press-2", order, online=online)], NEWEST)
    epoch, seq = order
    assert said.startswith(f"plant/press-2 has the manifest seq {seq} of key epoch {epoch}, the ")
    assert "the newest here is seq 40 of key epoch 2" in said
    assert "Fix: begin a new key epoch" in said
    assert "`escalon keys revoke`" in said


def test_of_several_the_one_that_is_furthest_ahead_is_named() -> None:
    nodes = [node(f"press-{number}", (2, 40 + number)) for number in range(4)]
    assert ahead(nodes, NEWEST).startswith(
        "plant/press-3 has the manifest seq 43 of key epoch 2 (one of 3 nodes that are ahead)"
    )


def test_a_cloud_with_no_manifest_at_all_is_behind_every_node_that_has_one() -> None:
    assert "seq 1 of key epoch 1" in ahead([node("press-1", (1, 1))], (0, 0))
