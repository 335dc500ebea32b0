"""Both brokers in turn, and the logs of every process in the report of a failure."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.integration.hierarchy import RUNNING, BrokerKind


@pytest.fixture(scope="module", params=["mosquitto", "amqtt"])
def kind(request: pytest.FixtureRequest) -> BrokerKind:
    """Each broker in turn."""
    if request.param == "mosquitto":
        request.getfixturevalue("require_mosquitto")
    chosen: BrokerKind = request.param
    return chosen


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the end of every log to the report of a failure."""
    report = yield
    if report.failed:
        for hierarchy in RUNNING:
            for name, text in hierarchy.logs():
                report.sections.append((f"log of {name}", text))
    return report
