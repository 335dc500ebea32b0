"""What the nodes of a site say of themselves reaches the cloud's broker, the latest of each."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from shared.metrics import NodeMetrics
from shared.topics import Topics
from tests.fakes import FakeBroker, FakeLink
from tier2.site_news import MAX_NEWS_BYTES, MAX_TOPICS, SiteNews

TOPICS = Topics("escalon", "site-a")
STATE, INFO = TOPICS.state("edge-1"), TOPICS.info("edge-1")
REPORT = TOPICS.updates("edge-1", "meter")


class Rig:
    """A gateway between a site's broker and the cloud's, both in memory."""

    def __init__(self, *, connected: bool = True) -> None:
        self.site, self.cloud = FakeBroker(), FakeBroker()
        self.below = FakeLink(self.site)
        self.above = FakeLink(self.cloud, connected=connected)
        self.metrics = NodeMetrics(CollectorRegistry())
        self.news = SiteNews(self.below, self.above, TOPICS, self.metrics)
        self.news.start()

    def turn(self) -> list[bool]:
        """One turn; returns of each message of the site whether it was news."""
        taken = [self.news.take(self.below, message) for message in self.below.receive()]
        self.news.poll()
        self.above.receive()
        return taken

    @property
    def dropped(self) -> float:
        found = self.metrics.registry.get_sample_value("edge_drops_total", {"reason": "news"})
        return found or 0.0


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize("topic", [STATE, INFO, REPORT], ids=["state", "info", "report"])
def test_news_go_up_on_the_same_topic_and_are_retained(rig: Rig, topic: str) -> None:
    rig.site.publish(topic, b"news", retain=True)
    assert rig.turn() == [True]
    assert rig.cloud.retained == {topic: b"news"}


@pytest.mark.parametrize(
    "topic",
    [
        TOPICS.samples("meter", "cam-1"),
        TOPICS.probe("edge-1", "plain"),
        "escalon/site-b/nodes/edge-1/state",
        "escalon/site-a/nodes/edge-1/state/more",
        "escalon/site-a/nodes/edge-1/updates",
        "escalon/site-a/nodes//state",
    ],
)
def test_nothing_else_is_news(topic: str) -> None:
    assert not TOPICS.is_news(topic)


def test_what_has_not_changed_is_not_sent_again(rig: Rig) -> None:
    for _ in range(3):
        rig.site.publish(STATE, b"online", retain=True)
        rig.turn()
    assert rig.cloud.payloads(STATE) == [b"online"]


def test_of_what_changes_while_the_cloud_is_away_the_latest_goes_up() -> None:
    rig = Rig(connected=False)
    for payload in (b"OFFERED", b"FETCHING", b"COMMITTED"):
        rig.site.publish(REPORT, payload, retain=True)
    rig.turn()
    assert rig.cloud.published == []
    rig.above.connect()
    rig.news.on_cloud_connected()
    rig.turn()
    assert rig.cloud.payloads(REPORT) == [b"COMMITTED"]


def test_a_cloud_broker_that_forgot_everything_has_it_all_again(rig: Rig) -> None:
    for topic in (STATE, INFO, REPORT):
        rig.site.publish(topic, b"news", retain=True)
    rig.turn()
    rig.cloud.forget()
    rig.news.on_cloud_connected()
    rig.turn()
    assert set(rig.cloud.retained) == {STATE, INFO, REPORT}


def test_news_that_are_too_large_go_no_further_and_are_counted(rig: Rig) -> None:
    rig.site.publish(INFO, b"x" * (MAX_NEWS_BYTES + 1), retain=True)
    assert rig.turn() == [True]
    assert rig.cloud.published == []
    assert rig.dropped == 1


def test_no_site_makes_a_gateway_remember_without_end(rig: Rig) -> None:
    for number in range(MAX_TOPICS + 5):
        rig.site.publish(TOPICS.state(f"edge-{number}"), b"online")
    rig.turn()
    rig.site.publish(TOPICS.state("edge-0"), b"offline")
    rig.turn()
    assert rig.dropped == 5
    assert rig.cloud.payloads(TOPICS.state("edge-0"))[-1] == b"offline"


def test_a_node_that_was_taken_off_the_site_goes_above_and_makes_room_for_another(rig: Rig) -> None:
    for number in range(MAX_TOPICS):
        rig.site.publish(TOPICS.state(f"edge-{number}"), b"online", retain=True)
    rig.turn()
    rig.site.publish(TOPICS.state("edge-0"), b"", retain=True)
    rig.turn()
    rig.site.publish(TOPICS.state("another"), b"online", retain=True)
    rig.turn()
    assert TOPICS.state("edge-0") not in rig.cloud.retained
    assert rig.cloud.retained[TOPICS.state("another")] == b"online"
    assert rig.dropped == 0


def test_what_comes_from_the_cloud_is_no_news_of_the_site(rig: Rig) -> None:
    rig.above.subscribe(STATE, 0)
    rig.cloud.publish(STATE, b"online")
    (message,) = rig.above.receive()
    assert not rig.news.take(rig.above, message)
