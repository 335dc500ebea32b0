"""Fixtures that every test folder shares."""

from __future__ import annotations

import os

import pytest

from escalon.demo.broker_programs import find_mosquitto


@pytest.fixture(scope="session")
def require_mosquitto() -> None:
    """Skip the test where Mosquitto is missing; in CI a missing Mosquitto is an error."""
    if find_mosquitto() is not None:
        return
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail("Mosquitto is not installed, and CI must test with it", pytrace=False)
    pytest.skip("Mosquitto is not installed")
