"""What a node says of its updates reaches the broker, at the latest with the next connection."""

from __future__ import annotations

import pytest

from shared.messages import UpdateReport, from_json
from shared.releases.reports import Reports
from tests.fakes import FakeBroker, FakeLink

TOPIC = "reports"


def report(seq: int) -> UpdateReport:
    return UpdateReport(
        node="n", channel="c", key_epoch=1, seq=seq, version=str(seq), rollout="", state="OFFERED",
        reason="", since=0.0, steps=[],
    )  # fmt: skip


@pytest.fixture
def hub() -> FakeBroker:
    return FakeBroker()


def said(hub: FakeBroker) -> list[int]:
    return [from_json(payload, UpdateReport).seq for payload in hub.payloads(TOPIC)]


def test_a_report_is_retained(hub: FakeBroker) -> None:
    Reports(FakeLink(hub), TOPIC).publish(report(1))
    late = FakeLink(hub)
    late.subscribe(TOPIC, 0)
    assert [message.topic for message in late.receive()] == [TOPIC]


def test_what_the_link_took_is_not_said_again(hub: FakeBroker) -> None:
    reports = Reports(FakeLink(hub), TOPIC)
    reports.publish(report(1))
    reports.poll()
    assert said(hub) == [1]


def test_of_what_the_link_did_not_take_the_last_is_said_once_there_is_one(hub: FakeBroker) -> None:
    link = FakeLink(hub, connected=False)
    reports = Reports(link, TOPIC)
    reports.publish(report(1))
    reports.publish(report(2))
    reports.poll()
    assert said(hub) == []
    link.connect()
    reports.poll()
    reports.poll()
    assert said(hub) == [2]
