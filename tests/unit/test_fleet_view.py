"""The cloud knows its fleet by what nodes say of themselves, and no more than it has room for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloud.fleet_file import EVERY_S, FleetFile
from cloud.fleet_view import MAX_NEWS_BYTES, MAX_TEXT, FleetView, fleet_of
from cloud.rollout.fleet import FleetNode, NodeReport
from escalon.release.versions import moment
from shared.errors import PayloadError
from shared.messages import ModelInfo, NodeInfo, NodeState, UpdateReport, to_json
from shared.releases.machine import State
from shared.topics import Topics

METER = "meter-tier1"
PLANT = Topics("escalon", "plant")


def born(node: str = "press-1", state: Any = "online", role: str = "tier1") -> tuple[str, bytes]:
    return PLANT.state(node), to_json(NodeState(node=node, role=role, state=state))


def info(node: str = "press-1", **changes: Any) -> tuple[str, bytes]:
    whole: dict[str, Any] = {
        "node": node, "role": "tier1", "site": "plant", "software": "1", "started": 0.0,
        "models": {"meter": ModelInfo(model=METER, version="4", sha256="")}, "hardware": "arm",
        "channels": (METER,),
    }  # fmt: skip
    return PLANT.info(node), to_json(NodeInfo(**(whole | changes)))


def report(node: str = "press-1", channel: str = METER, **changes: Any) -> tuple[str, bytes]:
    whole: dict[str, Any] = {
        "node": node, "channel": channel, "seq": 7, "version": "5", "state": "COMMITTED",
        "reason": "good", "since": 99.0, "steps": [], "rollout": "r-1",
    }  # fmt: skip
    return PLANT.updates(node, channel), to_json(UpdateReport(**(whole | changes)))


def seen(*news: tuple[str, bytes], **bounds: int) -> FleetView:
    view = FleetView("escalon", **bounds)
    for topic, payload in news:
        assert view.take(topic, payload)
    return view


def test_a_node_that_never_reported_is_in_the_fleet_by_its_info() -> None:
    view = seen(info(), born())
    assert view.fleet(METER) == [FleetNode("plant", "press-1", "arm", True, None)]
    assert view.fleet("other") == []
    assert view.nodes()[0].runs == {METER: "4"}


def test_a_node_of_older_software_is_in_the_fleet_once_it_reports() -> None:
    view = seen(info(channels=()), born())
    assert view.fleet(METER) == []
    view.take(*report())
    told = NodeReport("r-1", State.COMMITTED, "good", 99.0, order=(1, 7))
    assert view.fleet(METER) == [FleetNode("plant", "press-1", "arm", True, told)]


@pytest.mark.parametrize("order", [1, -1], ids=["state-first", "state-last"])
def test_births_infos_and_reports_come_in_any_order(order: int) -> None:
    news = [born(), info(), report()][::order]
    assert seen(*news).nodes() == seen(info(), report(), born()).nodes()


def test_a_will_takes_a_node_offline_and_a_birth_back() -> None:
    view = seen(info(), born(), born(state="offline"))
    assert [node.online for node in view.fleet(METER)] == [False]
    view.take(*born())
    assert [node.online for node in view.fleet(METER)] == [True]


def test_of_a_site_whose_uplink_is_dead_no_node_is_online() -> None:
    gateway = info("full-1", role="tier2", channels=(), models={})
    view = seen(gateway, born("full-1", role="tier2"), info(), born())
    assert [node.online for node in view.fleet(METER)] == [True]
    view.take(*born("full-1", state="offline", role="tier2"))
    assert [node.online for node in view.fleet(METER)] == [False]
    view.take(*info("full-2", role="tier2", channels=(), models={}))
    view.take(*born("full-2", role="tier2"))
    assert [node.online for node in view.fleet(METER)] == [True]


def test_a_node_whose_retained_messages_are_cleared_is_gone() -> None:
    view = seen(info(), born(), report())
    for topic, _ in (born(), info(), report()):
        view.take(topic, b"")
    view.take(*born("press-2"))
    assert [node.node for node in view.nodes()] == ["press-2"]


def test_nodes_of_two_sites_may_have_one_name() -> None:
    other = Topics("escalon", "works")
    view = seen(info(), (other.info("press-1"), info()[1]))
    assert [each.name for each in view.fleet(METER)] == ["plant/press-1", "works/press-1"]


@pytest.mark.parametrize(
    "topic",
    [
        "escalon/plant/telemetry/full-1",
        "escalon/plant/nodes/a/probe/session",
        "other/plant/nodes/a/info",
        "x",
    ],
)
def test_other_topics_are_no_news(topic: str) -> None:
    assert not FleetView("escalon").take(topic, b"")


@pytest.mark.parametrize(
    "news",
    [
        pytest.param((PLANT.info("press-1"), b"{"), id="no-json"),
        pytest.param((PLANT.info("press-1"), info("press-2")[1]), id="of-another-node"),
        pytest.param((PLANT.state("press-1"), b" " * (MAX_NEWS_BYTES + 1)), id="too-large"),
        pytest.param(report(state="EXPLODED"), id="unknown-state"),
        pytest.param((PLANT.updates("press-1", "b"), report()[1]), id="of-another-channel"),
    ],
)
def test_news_that_is_none_changes_nothing(news: tuple[str, bytes]) -> None:
    view = seen(info(), born())
    before = view.nodes()
    with pytest.raises(PayloadError):
        view.take(*news)
    assert view.nodes() == before


def test_a_node_too_many_is_left_out_and_the_others_go_on() -> None:
    view = seen(born("a"), born("b"), max_nodes=2)
    with pytest.raises(PayloadError) as told:
        view.take(*born("c"))
    assert told.value.reason == "fleet_full"
    assert view.take(*born("b", state="offline"))
    assert [(node.node, node.online) for node in view.nodes()] == [("a", True), ("b", False)]


def test_long_texts_are_cut_and_channels_counted() -> None:
    view = seen(report(reason="x" * 5000), info(hardware="y" * 5000))
    (node,) = view.nodes()
    assert (len(node.updates[METER].reason), len(node.hardware)) == (MAX_TEXT, MAX_TEXT)
    for number in range(63):
        view.take(*report(channel=f"c{number}"))
    with pytest.raises(PayloadError, match="more than 64 channels"):
        view.take(*report(channel="one-more"))


@pytest.mark.parametrize("since", [-1e300, -1.0, 1e18, 1e300])
def test_no_text_or_time_of_a_node_harms_who_looks_at_it(since: float) -> None:
    view = seen(report(reason="ok\n\x1b[2Jplant/z COMMITTED", since=since))
    (node,) = view.nodes()
    update = node.updates[METER]
    assert update.reason == "ok??[2Jplant/z COMMITTED"
    assert moment(update.since)


def test_the_snapshot_is_what_was_seen_and_is_written_no_more_often_than_it_may(
    tmp_path: Path,
) -> None:
    file, view = FleetFile.of(tmp_path), seen(info(), born(), report())
    assert file.read() is None
    assert file.keep(view, 1000.0, 0.0)
    snapshot = file.read()
    assert snapshot is not None
    assert (snapshot.taken, snapshot.nodes) == (1000.0, view.nodes())
    assert fleet_of(snapshot.nodes, METER) == view.fleet(METER)
    assert not file.keep(view, 1010.0, 10.0)  # nothing new
    view.take(*born(state="offline"))
    assert file.keep(view, 1020.0, 20.0)
    view.take(*born())
    assert not file.keep(view, 1021.0, 20.0 + EVERY_S / 2)
    assert file.keep(view, 1022.0, 20.0 + EVERY_S)


def test_nodes_of_the_last_snapshot_count_as_offline_until_they_say_otherwise() -> None:
    old, view = seen(info(), born()), FleetView("escalon")
    view.seed(old.nodes())
    assert [node.online for node in view.fleet(METER)] == [False]
    view.take(*born())
    assert view.fleet(METER) == old.fleet(METER)


def test_a_damaged_snapshot_is_said_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "fleet.json").write_bytes(b"{")
    assert FleetFile.of(tmp_path).read() is None
    assert "fleet.json is damaged" in caplog.text
