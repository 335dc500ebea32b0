"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from escalon.demo.broker_programs import find_mosquitto
from tests.postgres import MISSING, Cluster, find_programs, running_cluster


@pytest.fixture(scope="session")
def require_mosquitto() -> None:
    """Skip the test where Mosquitto is missing; in CI a missing Mosquitto is an error."""
    if find_mosquitto() is not None:
        return
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail("Mosquitto is not installed, and CI must test with it", pytrace=False)
    pytest.skip("Mosquitto is not installed")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server; skip where it is missing, in CI that is an error."""
    programs = find_programs()
    if programs is None:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"{MISSING}, and CI must test with it", pytrace=False)
        pytest.skip(MISSING)
    with running_cluster(programs) as found:
        yield found
