"""What the code expects of a link holds for the fake, on Mosquitto and on the embedded broker."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from escalon.demo.broker import BrokerProcess, open_broker
from shared.config import BrokerConfig
from shared.mqtt.link import Link, wait_for_any
from shared.mqtt.message import Message
from tests.fakes import FakeBroker, FakeLink, wait_until

MakeLink = Callable[[], Link]


@pytest.fixture(scope="module", params=["fake", "mosquitto", "amqtt"])
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FakeBroker | BrokerProcess]:
    if request.param == "fake":
        yield FakeBroker()
        return
    if request.param == "mosquitto":
        request.getfixturevalue("require_mosquitto")
    kind: Literal["mosquitto", "amqtt"] = request.param
    folder: Path = tmp_path_factory.mktemp("broker")
    with open_broker(folder, kind) as running:
        yield running


@pytest.fixture
def make_link(broker: FakeBroker | BrokerProcess) -> Iterator[MakeLink]:
    links: list[Link] = []

    def make() -> Link:
        if isinstance(broker, FakeBroker):
            links.append(FakeLink(broker))
        else:
            name = f"contract-{random.getrandbits(32):08x}"
            config = BrokerConfig(url=broker.url)
            rng = random.Random(1)
            links.append(Link(config, name, persistent=False, will=None, rng=rng))
        turn_until(links[-1], lambda: links[-1].connected, "a connection")
        return links[-1]

    yield make
    for link in links:
        link.close()


@pytest.fixture
def topic() -> str:
    return f"contract/{random.getrandbits(64):016x}"


def turn(link: Link) -> list[Message]:
    wait_for_any([link], 0.01)
    messages = link.receive()
    link.flush()
    link.tend(time.monotonic())
    return messages


def turn_until(link: Link, condition: Callable[[], bool], what: str) -> list[Message]:
    """Takes turns until a condition holds; returns what arrived meanwhile."""
    arrived: list[Message] = []

    def holds() -> bool:
        arrived.extend(turn(link))
        return condition()

    wait_until(holds, what)
    return arrived


def published(link: Link, topic: str, payload: bytes, *, retain: bool = False) -> list[Message]:
    """Publishes and waits for the acknowledgement; returns what arrived meanwhile."""
    acknowledged: list[bool] = []
    assert link.publish(topic, payload, retain=retain, on_ack=lambda: acknowledged.append(True))
    return turn_until(link, lambda: bool(acknowledged), "the broker's acknowledgement")


def next_message(link: Link, arrived: list[Message] | None = None) -> Message:
    found = list(arrived or [])

    def here() -> bool:
        found.extend(turn(link))
        return bool(found)

    wait_until(here, "a message")
    assert len(found) == 1
    return found[0]


def test_what_is_published_arrives_with_the_subscriptions_qos(
    make_link: MakeLink, topic: str
) -> None:
    sender, reader = make_link(), make_link()
    reader.subscribe(f"{topic}/one", 1)
    reader.subscribe(f"{topic}/zero", 0)
    settle(reader, topic)
    published(sender, f"{topic}/one", b"1")
    first = next_message(reader)
    assert (first.topic, first.payload, first.qos) == (f"{topic}/one", b"1", 1)
    assert first.mid > 0
    reader.done(first)
    published(sender, f"{topic}/zero", b"0")
    second = next_message(reader)
    assert (second.topic, second.qos, second.mid) == (f"{topic}/zero", 0, 0)
    assert not (first.retain or second.retain or first.dup or second.dup)


def test_each_subscription_brings_what_is_retained(make_link: MakeLink, topic: str) -> None:
    sender, reader = make_link(), make_link()
    published(sender, topic, b"kept", retain=True)
    for _ in range(2):
        reader.subscribe(topic, 0)
        message = next_message(reader)
        assert (message.payload, message.retain) == (b"kept", True)


def test_an_empty_payload_clears_what_is_retained(make_link: MakeLink, topic: str) -> None:
    sender, reader = make_link(), make_link()
    published(sender, topic, b"kept", retain=True)
    published(sender, topic, b"", retain=True)
    reader.subscribe(topic)
    settle(reader, topic)


def test_nothing_arrives_after_unsubscribing(make_link: MakeLink, topic: str) -> None:
    reader = make_link()
    reader.subscribe(topic)
    settle(reader, topic)
    reader.unsubscribe(topic)
    settle(reader, topic)
    arrived = published(reader, topic, b"for nobody")
    settle(reader, topic, arrived)


def test_without_a_connection_nothing_is_taken(make_link: MakeLink, topic: str) -> None:
    link = make_link()
    link.close()
    turn_until(link, lambda: not link.connected, "the end of the connection")
    assert not link.publish(topic, b"lost")


def test_a_link_is_settled_once_everything_is_acknowledged(make_link: MakeLink, topic: str) -> None:
    link = make_link()
    assert link.publish(topic, b"x", on_ack=lambda: None)
    assert not link.settled
    turn_until(link, lambda: link.settled, "the acknowledgement")


def settle(link: Link, topic: str, arrived: list[Message] | None = None) -> None:
    """Waits until the broker has handled all before, and sees that nothing else came."""
    marker = f"{topic}/marker"
    seen = list(arrived or [])
    link.subscribe(marker, 0)
    # The marker is published only once its subscription stands: sent again until it comes back.

    def back() -> bool:
        link.publish(marker, b"marker", qos=0)
        seen.extend(turn(link))
        return any(message.topic == marker for message in seen)

    wait_until(back, "the marker")
    link.unsubscribe(marker)
    quiet = published(link, f"{topic}/nobody", b"the markers are through now")
    assert [each for each in (*seen, *quiet) if each.topic != marker] == []
