"""A node says that it is there, and finds another one under its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from shared.config import BrokerConfig, NodeConfig
from shared.messages import NodeInfo, NodeState, from_json, to_json
from shared.metrics import conflicts_counter
from shared.mqtt.message import Message
from shared.presence import HOST, Presence, state_of
from tests.fakes import FakeBroker, FakeLink

STATE = "escalon/plant/nodes/press-3/state"


class Rig:
    """A node's presence on a fake link."""

    def __init__(self, hub: FakeBroker, folder: Path, instance: str, client_id: str) -> None:
        self.config = NodeConfig(node="press-3", site="plant", state_dir=folder)
        self.registry = CollectorRegistry()
        self.presence = Presence(
            self.config, "tier1", None, conflicts_counter(self.registry), instance
        )
        self.link = FakeLink(hub, connected=False, client_id=client_id)
        self.presence.watch(self.link)

    def connect(self) -> None:
        self.link.connect()
        self.presence.announce(self.link, {})

    def turn(self) -> list[bool]:
        return [self.presence.on_state(self.link, message, 10.0) for message in self.link.receive()]

    @property
    def conflicts(self) -> float:
        return self.registry.get_sample_value("edge_conflicts_total") or 0.0


@pytest.fixture
def hub() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def rig(hub: FakeBroker, tmp_path: Path) -> Rig:
    return Rig(hub, tmp_path, "first", "press-3")


def test_a_birth_names_process_and_host(rig: Rig, hub: FakeBroker) -> None:
    rig.connect()
    born = from_json(hub.retained[STATE], NodeState)
    assert born == NodeState(
        node="press-3", role="tier1", state="online", instance="first", host=HOST
    )
    info = from_json(hub.retained["escalon/plant/nodes/press-3/info"], NodeInfo)
    assert (info.node, info.role) == ("press-3", "tier1")


def test_a_farewell_replaces_the_birth(rig: Rig, hub: FakeBroker) -> None:
    rig.connect()
    rig.presence.farewell(rig.link)
    assert from_json(hub.retained[STATE], NodeState).state == "offline"


def test_its_own_state_is_no_conflict_and_other_topics_are_not_taken(rig: Rig) -> None:
    rig.connect()
    assert rig.turn() == [True]
    other = Message("escalon/plant/nodes/press-4/state", b"", 0, 0, 1)
    assert not rig.presence.on_state(rig.link, other, 0.0)
    assert (rig.conflicts, rig.link.contests) == (0, 0)


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"[1]"])
def test_a_state_that_is_none_is_passed_over(rig: Rig, hub: FakeBroker, payload: bytes) -> None:
    rig.connect()
    rig.turn()
    hub.publish(STATE, payload, retain=True)
    assert rig.turn() == [True]
    assert rig.conflicts == 0


def test_two_processes_of_one_name_find_each_other(
    hub: FakeBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (Rig(hub, tmp_path, name, "press-3") for name in ("first", "second"))
    for _ in range(3):
        for rig in (first, second):
            rig.connect()  # which evicts the other
            rig.turn()
    for rig in (first, second):
        assert rig.conflicts >= 1
        assert rig.link.contests >= 1
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 2
    assert all("client id press-3" in each and HOST in each and "Fix:" in each for each in said)
    assert "instance second" in said[0]
    assert "instance first" in said[1]


def test_a_node_that_is_killed_and_started_again_finds_nobody(
    hub: FakeBroker, tmp_path: Path
) -> None:
    for life in range(5):
        rig = Rig(hub, tmp_path, f"life-{life}", "press-3")
        rig.connect()
        rig.turn()
        rig.link.cut()
        hub.publish(
            STATE, to_json(state_of(rig.config, "tier1", "offline", f"life-{life}")), retain=True
        )
        rig.connect()
        rig.turn()
        rig.link.disconnect()
        assert (rig.conflicts, rig.link.contests) == (0, 0)


def test_evictions_that_the_broker_names_are_counted_at_the_next_birth(rig: Rig) -> None:
    rig.connect()
    rig.link.evictions += 2
    rig.connect()
    rig.connect()
    assert rig.conflicts == 2


def test_a_node_says_the_same_in_will_and_birth() -> None:
    config = NodeConfig(node="press-3", site="plant", state_dir=Path("x"))
    born, gone = state_of(config, "tier1", "online"), state_of(config, "tier1", "offline")
    assert born.instance == gone.instance != ""
    assert born.host == gone.host == HOST


def test_a_configuration_of_a_broker_says_what_a_packet_may_be() -> None:
    assert BrokerConfig(url="mqtt://broker").max_packet_bytes == 2**20
