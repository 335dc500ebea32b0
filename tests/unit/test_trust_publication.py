"""Every version of the trust document gets to a broker, whenever its link takes it."""

from __future__ import annotations

import pytest

from shared.releases.trust_publication import TrustPublication
from shared.topics import Topics
from tests.fakes import MAX_PACKET_BYTES, FakeBroker, FakeLink

TOPICS = Topics("escalon", "site-a")


def test_a_link_that_takes_no_version_now_takes_it_later() -> None:
    hub = FakeBroker()
    link = FakeLink(hub)
    publication = TrustPublication(link, TOPICS)
    link.full = True
    publication.begin({1: b"one", 2: b"two"})
    assert hub.retained == {}
    link.full = False
    publication.poll()
    assert hub.retained == {TOPICS.trust(1): b"one", TOPICS.trust(2): b"two"}
    hub.published.clear()
    publication.poll()
    assert hub.published == []


def test_a_version_that_a_broker_can_never_take_is_said_once_and_keeps_no_other_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = FakeBroker()
    link = FakeLink(hub)
    publication = TrustPublication(link, TOPICS)
    publication.begin({1: bytes(MAX_PACKET_BYTES), 2: b"two"})
    publication.poll()
    assert hub.retained == {TOPICS.trust(2): b"two"}
    assert caplog.text.count("trust version 1 cannot be published") == 1
