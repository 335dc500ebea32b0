"""Two processes under one name evict each other on a real broker; each finds the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from escalon.demo.broker import open_broker
from shared.config import NodeConfig
from shared.messages import to_json
from shared.metrics import conflicts_counter
from shared.mqtt.link import Link
from shared.mqtt.message import Will
from shared.presence import Presence, state_of
from tests.fakes import wait_until
from tests.integration.stations import Kind, Station, turn

ROUNDS = 40


class Process:
    """One process of a node: its link, and its eye on the state."""

    def __init__(self, station: Station, folder: Path, instance: str, client_id: str) -> None:
        self.config = NodeConfig(node="press-3", site=client_id, state_dir=folder)
        self.registry = CollectorRegistry()
        self.presence = Presence(
            self.config, "tier1", None, conflicts_counter(self.registry), instance
        )
        will = to_json(state_of(self.config, "tier1", "offline", instance))
        self.link: Link = station.link(
            client_id=client_id, will=Will(self.config.topics.state("press-3"), will)
        )
        self.presence.watch(self.link)
        self._session = 0

    def turn(self) -> None:
        if self.link.connected and self.link.session != self._session:
            self._session = self.link.session
            self.presence.announce(self.link, {})
        for message in turn(self.link):
            assert self.presence.on_state(self.link, message, time.monotonic())

    def reaches(self, session: int) -> bool:
        self.turn()
        return self.link.session >= session

    def is_gone(self) -> bool:
        self.turn()
        return not self.link.connected

    @property
    def conflicts(self) -> float:
        return self.registry.get_sample_value("edge_conflicts_total") or 0.0


@pytest.fixture(params=["3.1.1", "5"])
def station(
    request: pytest.FixtureRequest, tmp_path: Path, require_mosquitto: None
) -> Iterator[Station]:
    with open_broker(tmp_path / "broker", "mosquitto") as broker:
        opened = Station(Kind("mosquitto", request.param), broker)
        yield opened
        opened.close()


def test_each_of_two_processes_of_one_name_finds_the_other_and_slows_down(
    station: Station, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Process(station, tmp_path, "first", "line-1")
    first.turn()
    second = Process(station, tmp_path, "second", "line-1")

    def both_know() -> bool:
        first.turn()
        second.turn()
        return first.conflicts > 0 and second.conflicts > 0

    wait_until(both_know, "both to know")
    said = " ".join(record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    assert "instance first" in said
    assert "instance second" in said
    assert "with our client id line-1" in said
    # Whoever is thrown out now leaves the other in peace for half a minute and more.
    sessions = first.link.session + second.link.session
    for _ in range(ROUNDS):
        first.turn()
        second.turn()
    assert first.link.session + second.link.session <= sessions + 1


def test_a_node_that_is_alone_finds_nobody_through_cuts_and_a_new_life(
    station: Station, tmp_path: Path
) -> None:
    for life in ("first", "second"):
        process = Process(station, tmp_path, life, "line-1")
        for session in range(1, 4):
            wait_until(partial(process.reaches, session), "a connection")
            for _ in range(ROUNDS):
                process.turn()
            station.cut(process.link)
        assert process.conflicts == 0
        station.go_away(process.link)
        wait_until(process.is_gone, "its end")
