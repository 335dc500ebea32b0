"""The cloud knows its fleet by what nodes say of themselves, and no more than it has room for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud.fleet_file import ANEW_EVERY_S, EVERY_S, FleetFile
from cloud.fleet_view import MAX_NEWS_BYTES, MAX_TEXT, UNHEARD_S, FleetView, fleet_of
from cloud.rollout.fleet import FleetNode, NodeReport
from escalon.release.versions import moment
from shared.errors import PayloadError, StorageError
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


def test_the_snapshot_is_written_once_a_minute_though_nothing_changes(tmp_path: Path) -> None:
    file, view = FleetFile.of(tmp_path), seen(info(), born())
    assert file.keep(view, 1000.0, 0.0)
    assert not file.keep(view, 1059.0, ANEW_EVERY_S - 1)
    assert file.keep(view, 1060.0, ANEW_EVERY_S)
    snapshot = file.read()
    assert snapshot is not None
    assert snapshot.taken == 1060.0


def test_a_snapshot_that_cannot_be_written_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    view, blocked = seen(info(), born()), tmp_path / "state"
    blocked.write_bytes(b"no folder")
    file = FleetFile.of(blocked)
    for turn in range(5):
        assert not file.keep(view, 1000.0, turn * EVERY_S)
    assert caplog.text.count("the command line cannot be shown the fleet") == 1
    blocked.unlink()
    assert file.keep(view, 1000.0, 5 * EVERY_S)
    (blocked / "fleet.json").unlink()
    blocked.rmdir()
    blocked.write_bytes(b"no folder")
    view.take(*born(state="offline"))
    assert not file.keep(view, 1000.0, 6 * EVERY_S)
    assert caplog.text.count("the command line cannot be shown the fleet") == 2


def test_nodes_of_the_last_snapshot_count_as_offline_until_they_say_otherwise() -> None:
    old, view = seen(info(), born(), report()), FleetView("escalon")
    view.seed(old.nodes())
    assert [node.online for node in view.fleet(METER)] == [False]
    for news in (born(), info(), report()):
        view.take(*news)
    assert view.fleet(METER) == old.fleet(METER)


def test_nodes_that_the_broker_no_longer_names_are_gone_after_a_while() -> None:
    view = FleetView("escalon")
    view.seed(seen(info("a"), info("ghost")).nodes())
    view.hear_anew()
    view.take(*info("a"))
    view.forget_unheard(100.0)
    view.forget_unheard(100.0 + UNHEARD_S - 1)
    assert [node.node for node in view.nodes()] == ["a", "ghost"]
    view.forget_unheard(100.0 + UNHEARD_S)
    assert [node.node for node in view.nodes()] == ["a"]
    view.forget_unheard(100.0 + 3 * UNHEARD_S)
    assert [node.node for node in view.nodes()] == ["a"]


def test_a_broker_that_has_forgotten_everybody_has_time_to_hear_of_them_again() -> None:
    view = seen(info("a"), born("a"), info("b"), born("b"))
    view.hear_anew()
    view.forget_unheard(0.0)
    assert [node.online for node in view.fleet(METER)] == [False, False]
    view.take(*born("b"))
    view.take(*info("b"))
    view.hear_anew()  # and it is cut again: the while begins anew
    view.forget_unheard(UNHEARD_S)
    assert len(view.nodes()) == 2
    for news in (born("a"), info("a"), born("b"), info("b")):
        view.take(*news)
    view.forget_unheard(2 * UNHEARD_S)
    assert [node.online for node in view.fleet(METER)] == [True, True]


def test_what_was_cleared_of_a_node_while_nobody_listened_is_gone() -> None:
    view = seen(info(), born(), report())
    view.hear_anew()
    view.take(*info())
    view.take(*born())
    (node,) = view.nodes()
    assert (node.online, node.hardware, node.updates) == (True, "arm", {})


def room(*news: tuple[str, bytes]) -> int:
    """Returns what the one node of some news takes in a view."""
    (node,) = seen(*news).nodes()
    return len(msgspec.json.encode(msgspec.structs.replace(node, online=False)))


def test_the_whole_fleet_has_a_bound_in_bytes_and_what_is_there_is_heard_on() -> None:
    view = seen(info("a"), born("a"), max_bytes=room(info("a"), born("a")))
    for too_much in (info("b"), info("a", hardware="y" * MAX_TEXT), report("a")):
        before = view.nodes()
        with pytest.raises(PayloadError) as told:
            view.take(*too_much)
        assert told.value.reason == "fleet_full"
        assert view.nodes() == before
    view.take(*born("a", state="offline"))
    assert [node.online for node in view.nodes()] == [False]
    for topic, _ in (born("a"), info("a")):
        view.take(topic, b"")
    view.take(*info("b"))
    assert [node.node for node in view.nodes()] == ["b"]


def test_however_full_it_is_a_node_that_goes_is_heard() -> None:
    view, letters = seen(info("a"), born("a"), max_bytes=room(info("a"), born("a")) + 20), 0
    with pytest.raises(PayloadError, match="bytes of a fleet"):
        for letters in range(MAX_TEXT):
            view.take(*info("a", hardware="arm" + letters * "y"))
    assert letters > 20
    view.take(*born("a", state="offline"))
    assert [node.online for node in view.nodes()] == [False]


def test_a_hostile_fleet_takes_no_more_than_its_bound() -> None:
    view, refused = FleetView("escalon", max_bytes=100_000), 0
    for number in range(200):
        for channel in range(20):
            try:
                view.take(*report(f"n{number}", f"c{channel}", reason="x" * 60_000))
            except PayloadError as error:
                refused += error.reason == "fleet_full"
    assert refused > 1000
    assert len(msgspec.json.encode(view.nodes())) < 110_000


def test_a_snapshot_of_more_than_there_is_room_for_is_taken_as_far_as_there_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    view = FleetView("escalon", max_nodes=1)
    view.seed(seen(info("a"), info("b")).nodes())
    assert [node.node for node in view.nodes()] == ["a"]
    assert "plant/b is one node more than 1" in caplog.text


def test_a_damaged_snapshot_is_no_empty_fleet(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "fleet.json").write_bytes(b"{")
    file, view = FleetFile.of(tmp_path), seen(info(), born())
    with pytest.raises(StorageError, match=r"fleet.json is damaged: .* Fix: start the cloud node"):
        file.read()
    file.seed(view)  # the node's start
    assert "fleet.json is damaged" in caplog.text
    assert file.keep(view, 1000.0, 0.0)
    assert file.read() is not None
