"""The brokers on which the link's contract is tested: in memory, embedded, Mosquitto."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Literal, NamedTuple
from unittest import mock

from escalon.demo.broker import BrokerProcess
from shared.config import BrokerConfig
from shared.mqtt import open_client
from shared.mqtt.link import Link, wait_for_any
from shared.mqtt.message import Message, Will
from tests.cutting_proxy import CuttingProxy
from tests.fakes import FakeBroker, FakeLink, wait_until

Protocol = Literal["3.1.1", "5"]
WireKind = Literal["tapped", "stock"]


class Kind(NamedTuple):
    """One way to have a link.

    Attributes:
        broker: the broker.
        protocol: the MQTT version.
        wire: how messages go.
    """

    broker: Literal["fake", "mosquitto", "amqtt"]
    protocol: Protocol = "3.1.1"
    wire: WireKind = "tapped"

    @property
    def name(self) -> str:
        """For the test's id."""
        return self.broker if self.broker == "fake" else "-".join(self)

    @property
    def keeps_sessions(self) -> bool:
        """Whether the broker keeps the session of a client that is away."""
        return self.broker != "amqtt"


KINDS = [
    Kind("fake"),
    *(
        Kind("mosquitto", version, wire)
        for version in ("3.1.1", "5")
        for wire in ("tapped", "stock")
    ),
    *(Kind("amqtt", "3.1.1", wire) for wire in ("tapped", "stock")),
]


class Station:
    """Makes links to one broker, and disturbs them.

    Args:
        kind: which broker, and how.
        broker: it, running.
    """

    def __init__(self, kind: Kind, broker: FakeBroker | BrokerProcess) -> None:
        self.kind = kind
        self._broker = broker
        self._links: list[Link] = []
        self._proxies: dict[int, CuttingProxy] = {}
        self._stack = ExitStack()

    def link(
        self,
        *,
        client_id: str | None = None,
        persistent: bool = False,
        will: Will | None = None,
        receive_maximum: int | None = None,
        max_packet_bytes: int = 2**20,
        keepalive_s: int = 30,
    ) -> Link:
        """Makes a link and waits until it is connected."""
        name = client_id or f"contract-{random.getrandbits(32):08x}"
        link: Link
        if isinstance(self._broker, FakeBroker):
            link = FakeLink(
                self._broker, client_id=name, persistent=persistent, will=will,
                receive_maximum=receive_maximum or 65_535, max_packet_bytes=max_packet_bytes,
            )  # fmt: skip
        else:
            proxy = self._stack.enter_context(CuttingProxy(self._broker.port))
            config = BrokerConfig(
                url=proxy.url, protocol=self.kind.protocol, max_packet_bytes=max_packet_bytes
            )
            # Shorter than a configuration may say, so that a test sees it.
            config = config.model_copy(update={"keepalive_s": keepalive_s})
            why = None if self.kind.wire == "tapped" else "the test says so"
            with mock.patch.object(open_client, "misfit", lambda: why):
                link = Link(
                    config, name, persistent=persistent, will=will, rng=random.Random(1),
                    receive_maximum=receive_maximum,
                )  # fmt: skip
            self._proxies[id(link)] = proxy
        self._links.append(link)
        turn_until(link, lambda: link.connected, "a connection")
        return link

    def proxy(self, link: Link) -> CuttingProxy:
        """Returns what stands between a real link and its broker."""
        return self._proxies[id(link)]

    def cut(self, link: Link) -> None:
        """Ends a link's connection without a word; it may come back at once."""
        if isinstance(link, FakeLink):
            link.cut()
        else:
            self.proxy(link).cut()

    def go_away(self, link: Link) -> None:
        """Ends a link's connection; the broker cannot be reached until ``come_back``."""
        if isinstance(link, FakeLink):
            link.hub.away = True
            link.cut()
        else:
            self.proxy(link).go_away()

    def come_back(self, link: Link) -> None:
        """The broker can be reached again."""
        if isinstance(link, FakeLink):
            link.hub.away = False
        else:
            self.proxy(link).come_back()

    def hold_acks(self, link: Link, hold: bool) -> None:
        """Keeps the broker's acknowledgements, and all else it says, from a link."""
        if isinstance(link, FakeLink):
            link.holds_acks = hold
        elif hold:
            self.proxy(link).mute()
        else:
            self.proxy(link).unmute()

    def close(self) -> None:
        """Closes links and proxies."""
        for link in self._links:
            link.close()
        self._stack.close()


def turn(*links: Link) -> list[Message]:
    """Lets links take a turn each; returns what the first one got."""
    wait_for_any(links, 0.01)
    first: list[Message] = []
    for link in links:
        messages = link.receive()
        first = messages if link is links[0] else first
        link.flush()
        link.tend(time.monotonic())
    return first


def turn_until(
    link: Link, condition: Callable[[], bool], what: str, *others: Link
) -> list[Message]:
    """Takes turns until a condition holds; returns what arrived at the first link meanwhile."""
    arrived: list[Message] = []

    def holds() -> bool:
        arrived.extend(turn(link, *others))
        return condition()

    wait_until(holds, what)
    return arrived


def published(link: Link, topic: str, payload: bytes, *, retain: bool = False) -> list[Message]:
    """Publishes and waits for the acknowledgement; returns what arrived meanwhile."""
    acknowledged: list[bool] = []
    assert link.publish(topic, payload, retain=retain, on_ack=lambda: acknowledged.append(True))
    return turn_until(link, lambda: bool(acknowledged), "the broker's acknowledgement")


def take(link: Link, number: int, *others: Link) -> list[Message]:
    """Waits for a number of messages and returns them."""
    found: list[Message] = []

    def here() -> bool:
        found.extend(turn(link, *others))
        return len(found) >= number

    wait_until(here, f"{number} messages")
    assert len(found) == number
    return found


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
