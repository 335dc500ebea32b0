"""Fixtures of the unit tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings
from prometheus_client import CollectorRegistry

from shared.metrics import NodeMetrics
from shared.releases.health import Health
from shared.releases.machine import State
from tests.fakes import FakeBroker
from tests.update_station import Station, model_of, release

# A noisy machine makes single examples slow; what is too slow shows in the whole suite.
settings.register_profile(
    "unit", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unit")


@pytest.fixture
def metrics() -> NodeMetrics:
    """Metrics in a registry of their own."""
    return NodeMetrics(CollectorRegistry())


@pytest.fixture(scope="session")
def release_key() -> Ed25519PrivateKey:
    """The key that signs this run's releases."""
    return Ed25519PrivateKey.generate()


StationMaker = Callable[..., Station]


@pytest.fixture
def make_station(tmp_path: Path, release_key: Ed25519PrivateKey) -> Iterator[StationMaker]:
    """Makes stations on one folder; a second one is the next life of the first."""
    made: list[Station] = []
    hub = FakeBroker()

    def maker(**config: Any) -> Station:
        if made:
            made[-1].die()
        made.append(Station(tmp_path / "state", release_key, hub, **config))
        return made[-1]

    (tmp_path / "state").mkdir()
    yield maker
    for station in made:
        station.updater.close()


@pytest.fixture(scope="session")
def committed_folder(
    tmp_path_factory: pytest.TempPathFactory, release_key: Ed25519PrivateKey
) -> Path:
    """The folder of a node that has committed release 1."""
    folder = tmp_path_factory.mktemp("committed")
    station = Station(folder, release_key, FakeBroker())
    station.start()
    station.publish(release(1), model_of(1))
    station.run_to(State.PROBATION, 1)
    station.health = Health(batches=20, samples=20)
    station.commit(1)
    station.updater.close()
    return folder


@pytest.fixture
def make_on_1(make_station: StationMaker, tmp_path: Path, committed_folder: Path) -> StationMaker:
    """Makes stations on a folder with release 1 committed."""
    shutil.copytree(committed_folder, tmp_path / "state", dirs_exist_ok=True)
    return make_station


@pytest.fixture
def on_1(make_on_1: StationMaker) -> Station:
    """A station that runs release 1."""
    station = make_on_1()
    station.start()
    return station
