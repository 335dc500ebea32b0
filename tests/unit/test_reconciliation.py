"""When a channel's retained manifest is asked for, without an update."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from shared.metrics import NodeMetrics
from shared.releases.complaints import Complaints
from shared.releases.journal import Journal
from shared.releases.reconciliation import MAX_DOUBLINGS, RECONCILE_S, Reconciliation
from shared.releases.record import ChannelFile
from shared.releases.reports import Reports
from tests.builders import CHANNEL
from tests.fakes import FakeBroker, FakeLink

TOPIC = "releases/channel"


class Rig:
    """A reconciliation, with a clock that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.utc_s = 1000.0
        self.link = FakeLink(FakeBroker())
        self.metrics = NodeMetrics(CollectorRegistry())
        self.journal = Journal(
            ChannelFile.of(folder, CHANNEL),
            node="n",
            channel=CHANNEL,
            metrics=self.metrics,
            publish=Reports(self.link, "reports").publish,
        )
        self.reconciliation = Reconciliation(
            self.link,
            TOPIC,
            channel=CHANNEL,
            journal=self.journal,
            utc_s=lambda: self.utc_s,
            metrics=self.metrics,
            complaints=Complaints(CHANNEL),
        )

    def asks_within(self, now_s: float, seconds: float) -> bool:
        """Whether it asks at the end of so many seconds, and not before."""
        asked = len(self.link.subscribed)
        self.reconciliation.poll(now_s + seconds - 1)
        assert len(self.link.subscribed) == asked
        self.reconciliation.poll(now_s + seconds)
        return len(self.link.subscribed) == asked + 1

    @property
    def is_stale(self) -> bool:
        name, labels = "edge_release_stale", {"channel": CHANNEL}
        return bool(self.metrics.registry.get_sample_value(name, labels))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_it_is_asked_for_at_first_and_then_now_and_then(rig: Rig) -> None:
    rig.reconciliation.poll(1.0)
    assert rig.link.subscribed == [TOPIC]
    assert rig.asks_within(1.0, RECONCILE_S)


def test_what_fails_again_and_again_is_asked_for_ever_more_seldom_up_to_a_bound(rig: Rig) -> None:
    now_s = 0.0
    for doubling in (*range(MAX_DOUBLINGS + 1), MAX_DOUBLINGS):
        rig.reconciliation.ask_later(now_s)
        assert rig.asks_within(now_s, RECONCILE_S * 2**doubling)
        now_s += RECONCILE_S * 2**doubling


def test_failures_that_are_forgotten_do_not_count(rig: Rig) -> None:
    rig.reconciliation.ask_later(0.0)
    rig.reconciliation.ask_later(0.0)
    rig.reconciliation.forget_failures()
    rig.reconciliation.ask_later(0.0)
    assert rig.asks_within(0.0, RECONCILE_S)


def test_an_expired_manifest_is_said_once_and_shown_until_a_newer_one_comes(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.journal.write(expires=rig.utc_s)
    rig.reconciliation.ask(0.0)
    rig.reconciliation.ask(1.0)
    assert rig.is_stale
    assert caplog.text.count("has expired") == 1
    rig.journal.write(expires=rig.utc_s + 1)
    rig.reconciliation.ask(2.0)
    assert not rig.is_stale
