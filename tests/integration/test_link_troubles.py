"""What a link does when its broker refuses, goes silent, talks nonsense or has limits."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from unittest import mock

import pytest

from shared.config import BrokerConfig
from shared.errors import PayloadError
from shared.mqtt import open_client
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.mqtt.outbox import MAX_FUTILE_CONNECTIONS
from shared.mqtt.shared_subscriptions import SharedProbe, Verdict
from tests.fakes import wait_until
from tests.scripted_broker import ACCEPT, CONNECT, SUBSCRIBE, Peer, ScriptedBroker, publish

PUBLISH_1 = 0x32
PUBLISH_AGAIN = 0x3A
PUBACK = 0x40
PUBREC = 0x50
PUBCOMP = 0x70


class Rig:
    """A link to a scripted broker, with a clock of the test's own."""

    def __init__(self, stack: ExitStack, wire: str) -> None:
        self.now_s = 1000.0
        self.protocol = "3.1.1"
        self.wire = wire
        self.link: Link
        self._stack = stack

    def open(self, script: Callable[[Peer], None], protocol: str = "3.1.1", **how: object) -> Link:
        self.protocol = protocol
        self.broker = self._stack.enter_context(ScriptedBroker(script))
        config = BrokerConfig.model_validate({"url": self.broker.url, "protocol": protocol, **how})
        why = None if self.wire == "tapped" else "the test says so"
        with mock.patch.object(open_client, "misfit", lambda: why):
            self.link = Link(config, "press-3", persistent=False, will=None, rng=random.Random(1))
        self._stack.callback(self.link.close)
        return self.link

    def turn(self) -> list[Message]:
        messages = self.link.receive()
        self.link.flush()
        self.link.tend(self.now_s)
        return messages

    def until(self, condition: Callable[[], bool], what: str) -> list[Message]:
        arrived: list[Message] = []

        def holds() -> bool:
            self.now_s += 0.01
            arrived.extend(self.turn())
            return condition()

        wait_until(holds, what)
        return arrived

    def connect(self) -> None:
        self.until(lambda: self.link.connected, "a connection")


@pytest.fixture(params=["tapped", "stock"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(stack, request.param)


def test_a_paho_that_cannot_be_tapped_is_used_as_it_is_and_said(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.open(lambda peer: peer.accept("3.1.1"))
    said = [record for record in caplog.records if "the test says so" in record.message]
    assert [record.levelname for record in said] == (["WARNING"] if rig.wire == "stock" else [])


# The broker does not accept us


REFUSALS = [
    ("3.1.1", b"\x20\x02\x00\x02", "client id press-3"),
    ("3.1.1", b"\x20\x02\x00\x04", "broker.password"),
    ("3.1.1", b"\x20\x02\x00\x05", "user line-1 with the client id press-3"),
    ("5", b"\x20\x03\x00\x86\x00", "broker.password"),
    ("5", b"\x20\x03\x00\x87\x00", "user line-1 with the client id press-3"),
    ("5", b"\x20\x03\x00\x8a\x00", "bans"),
    ("5", b"\x20\x03\x00\x84\x00", "broker.protocol"),
]


@pytest.mark.parametrize(("protocol", "connack", "fix"), REFUSALS)
def test_a_refusal_says_what_to_do_and_is_tried_again_slowly(
    rig: Rig, protocol: str, connack: bytes, fix: str, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(peer: Peer) -> None:
        peer.until(CONNECT)
        peer.send(connack)
        peer.drain()

    rig.open(refuse, protocol, username="line-1", password="secret")
    rig.until(lambda: "refuses us" in caplog.text, "the refusal")
    assert fix in caplog.text
    assert "secret" not in caplog.text
    assert not rig.link.connected
    rig.now_s += 29
    for _ in range(20):
        rig.turn()
    assert rig.broker.connections == 1
    rig.now_s += 32
    rig.until(lambda: rig.broker.connections == 2, "the next attempt")


def test_a_broker_that_is_busy_is_asked_again_soon(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    def be_busy_once(peer: Peer) -> None:
        peer.until(CONNECT)
        peer.send(b"\x20\x02\x00\x03" if peer.number == 1 else ACCEPT["3.1.1"])
        peer.drain()

    rig.open(be_busy_once)
    rig.until(lambda: "does not accept us now" in caplog.text, "the refusal")
    rig.now_s += 0.26
    rig.connect()


def test_a_broker_that_cannot_be_reached_is_said_once_and_then_every_minute(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.open(lambda peer: None)
    rig.broker.__exit__(None, None, None)

    def minute_passes(said: int) -> None:
        ends_s = rig.now_s + 59

        def is_over() -> bool:
            # Slowly enough for several attempts, of which each takes some turns.
            rig.now_s += 0.5
            return rig.now_s > ends_s

        rig.until(is_over, "a minute")
        assert caplog.text.count("cannot reach") == said

    rig.until(lambda: "cannot reach" in caplog.text, "a word")
    minute_passes(1)
    rig.now_s += 2
    rig.until(lambda: caplog.text.count("cannot reach") == 2, "a word again")
    assert "times more" in caplog.text
    minute_passes(2)


def test_a_broker_that_takes_the_connection_and_is_silent_is_left(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    def be_silent_once(peer: Peer) -> None:
        if peer.number > 1:
            peer.accept("3.1.1")
        peer.drain()

    rig.open(be_silent_once)
    rig.until(lambda: rig.broker.connections == 1 and rig.link.socket() is not None, "the attempt")
    rig.turn()
    rig.now_s += 5.1
    rig.until(lambda: "says nothing" in caplog.text, "a word")
    rig.now_s += 1
    rig.connect()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\x00",
        b"\x20\xff\xff\xff\xff\x01",
        b"\xf0\x00",
    ],
)
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_nonsense_instead_of_an_answer_is_a_failed_attempt(
    rig: Rig, protocol: str, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def talk_nonsense_once(peer: Peer) -> None:
        peer.until(CONNECT)
        peer.send(answer if peer.number == 1 else ACCEPT[protocol])
        if peer.number > 1:
            peer.drain()

    rig.open(talk_nonsense_once, protocol)
    rig.until(lambda: "without an answer" in caplog.text, "a word")
    assert ("does it speak MQTT 5?" in caplog.text) == (protocol == "5")
    rig.now_s += 1
    rig.connect()


# The broker throws us out


def test_a_name_that_was_taken_over_is_said_counted_and_defended_slowly(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    def take_over_once(peer: Peer) -> None:
        peer.accept("5")
        if peer.number == 1:
            peer.send(b"\xe0\x01\x8e")
        else:
            peer.drain()

    rig.open(take_over_once, "5")
    rig.until(lambda: rig.link.evictions == 1, "the eviction")
    rig.turn()
    assert "another client took our name press-3" in caplog.text
    assert "`node:`" in caplog.text
    rig.now_s += 29
    for _ in range(20):
        rig.turn()
    assert not rig.link.connected
    rig.now_s += 32
    rig.connect()


def test_a_broker_that_ends_each_connection_at_once_is_not_asked_hotly(rig: Rig) -> None:
    rig.open(lambda peer: peer.accept("3.1.1"))
    for session in range(1, 8):
        while rig.link.session < session:
            rig.until(lambda: not rig.link.connected, "the end of the last one")
            rig.turn()
        rig.until(lambda: not rig.link.connected, "its end")
        # The delay doubles: half of the last one, jittered, is never enough.
        rig.turn()
        rig.now_s += min(15.0, 0.25 * 2 ** (session - 1)) * 0.49
        for _ in range(5):
            rig.turn()
        assert rig.link.session == session
        rig.now_s += 15.0


def test_a_message_that_ends_every_connection_is_given_up_and_the_next_goes_through(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    if rig.wire == "stock":
        pytest.skip("paho keeps what it has")

    def hate_one_topic(peer: Peer) -> None:
        peer.accept("3.1.1")
        while (packet := peer.receive()) is not None:
            head, body = packet
            if head & 0xF0 == 0x30:
                if b"forbidden" in body:
                    return
                at = 2 + int.from_bytes(body[:2], "big")
                peer.send(b"\x40\x02" + body[at : at + 2])

    link = rig.open(hate_one_topic)
    rig.connect()
    told: list[str] = []
    assert link.publish("a/forbidden", b"x", on_ack=lambda: told.append("forbidden"))
    assert link.publish("a/allowed", b"x", on_ack=lambda: told.append("allowed"))

    def through() -> bool:
        if link.socket() is None:
            rig.now_s += 16
        return told == ["forbidden", "allowed"]

    rig.until(through, "the second message")
    assert link.take_drops() == {"refused": 1}
    assert link.session == MAX_FUTILE_CONNECTIONS + 1
    assert "gave up a message" in caplog.text


# The broker has limits (MQTT 5)


def connack(properties: bytes) -> bytes:
    return bytes((0x20, 3 + len(properties), 0, 0, len(properties))) + properties


def test_no_more_is_sent_unacknowledged_than_the_broker_takes(rig: Rig) -> None:
    unacknowledged: list[bytes] = []
    most, go_on = [0], threading.Event()

    def take_two(peer: Peer) -> None:
        peer.until(CONNECT)
        peer.send(connack(b"\x21\x00\x02"))
        while True:
            body = peer.until(PUBLISH_1, PUBLISH_AGAIN)
            unacknowledged.append(body[3:5])
            most[0] = max(most[0], len(unacknowledged))
            if go_on.is_set():
                while unacknowledged:
                    peer.send(b"\x40\x02" + unacknowledged.pop(0))

    link = rig.open(take_two, "5")
    rig.connect()
    waiting, acknowledged = list(range(7)), []

    def all_through() -> bool:
        while waiting and link.publish("t", b"x", on_ack=lambda: acknowledged.append(1)):
            waiting.pop()
        return len(acknowledged) == 7

    rig.until(lambda: all_through() or len(unacknowledged) == 2, "two messages")
    for _ in range(20):
        rig.turn()
    assert (most[0], acknowledged) == (2, [])
    go_on.set()
    link.restart()
    rig.now_s += 1
    rig.until(all_through, "the others")
    assert most[0] <= 4  # two of the lost connection, never acknowledged, and two of the new one


def test_a_message_larger_than_the_broker_takes_is_never_sent(rig: Rig) -> None:
    def take_little(peer: Peer) -> None:
        peer.until(CONNECT)
        peer.send(connack(b"\x27" + (1000).to_bytes(4, "big")))
        peer.drain()

    link = rig.open(take_little, "5")
    rig.connect()
    with pytest.raises(PayloadError, match="1000 bytes") as error:
        link.publish("t", bytes(1000))
    assert error.value.reason == "too_large"
    assert link.publish("t", bytes(900), qos=0)


def test_a_broker_that_says_it_has_no_shared_subscriptions_is_not_asked_for_one(rig: Rig) -> None:
    asked: list[bytes] = []

    def have_none(peer: Peer) -> None:
        peer.until(CONNECT)
        peer.send(connack(b"\x2a\x00"))
        while True:
            asked.append(peer.until(SUBSCRIBE))

    link = rig.open(have_none, "5")
    rig.connect()
    probe = SharedProbe(link, "a/probe", "a/plain-probe", random.Random(1))
    probe.poll(rig.now_s)
    assert probe.verdict is Verdict.NOT_DELIVERED
    link.subscribe("a/plain")
    rig.until(lambda: bool(asked), "a subscription")
    assert [b"a/plain" in body for body in asked] == [True]


def test_a_message_that_the_broker_refuses_is_answered_for_and_counted(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse_messages(peer: Peer) -> None:
        peer.accept("5")
        while True:
            peer.send(b"\x40\x04" + peer.until(PUBLISH_1)[3:5] + b"\x97\x00")

    link = rig.open(refuse_messages, "5")
    rig.connect()
    told: list[int] = []
    assert link.publish("t", b"x", on_ack=lambda: told.append(1))
    rig.until(lambda: bool(told), "the answer")
    rig.turn()
    assert link.take_drops() == {"refused": 1}
    assert "0x97" in caplog.text
    assert link.settled


# The broker sends what it should not


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_message_at_qos_2_is_dropped_and_brought_to_its_end(
    rig: Rig, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[bytes] = []

    def send_qos_2(peer: Peer) -> None:
        peer.accept(protocol)
        peer.send(publish(b"t", b"2", 9, qos=2, protocol=protocol))
        ended.append(peer.until(PUBREC)[:2])
        peer.send(b"\x62\x02\x00\x09")
        ended.append(peer.until(PUBCOMP)[:2])
        peer.send(publish(b"t", b"1", 10, protocol=protocol))
        ended.append(peer.until(PUBACK)[:2])
        peer.drain()

    link = rig.open(send_qos_2, protocol)
    arrived: list[Message] = []

    def one_here() -> bool:
        arrived.extend(rig.turn())
        return len(arrived) == 1

    wait_until(one_here, "the next message")
    (message,) = arrived
    assert (message.payload, message.qos) == (b"1", 1)
    link.done(message)
    rig.until(lambda: len(ended) == 3, "its acknowledgement")
    assert "QoS 2" in caplog.text


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_topic_that_is_not_utf8_is_counted_and_acknowledged_in_its_turn(
    rig: Rig, protocol: str
) -> None:
    acknowledged: list[bytes] = []

    def send_bad_topic(peer: Peer) -> None:
        peer.accept(protocol)
        peer.send(publish(b"t", b"1", 1, protocol=protocol))
        peer.send(publish(b"\xff\xfe", b"x", 2, protocol=protocol))
        peer.send(publish(b"t", b"3", 3, protocol=protocol))
        while True:
            acknowledged.append(peer.until(PUBACK)[:2])

    link = rig.open(send_bad_topic, protocol)
    arrived: list[Message] = []

    def two_here() -> bool:
        arrived.extend(rig.turn())
        return len(arrived) == 2

    wait_until(two_here, "the other messages")
    assert link.take_drops() == {"bad_topic": 1}
    for message in arrived:
        link.done(message)
    rig.until(lambda: len(acknowledged) == 3, "the acknowledgements")
    assert acknowledged == [b"\0\1", b"\0\2", b"\0\3"]


@pytest.mark.parametrize(
    "nonsense",
    [b"\x32\x05\x00\xff\x00\x00\x00", b"\x30\x00", b"\x36\x05\x00\x01t\x00\x01", b"\x40\x01\x00",
     b"\x32\x05\x00\x01t\x00\x00", b"\x30\xff\xff\xff\xff\x7f"],
)  # fmt: skip
def test_nonsense_on_a_connection_ends_it_and_never_the_node(rig: Rig, nonsense: bytes) -> None:
    def talk_nonsense_once(peer: Peer) -> None:
        peer.accept("3.1.1")
        if peer.number == 1:
            peer.send(nonsense)
            peer.until(PUBACK)  # lets the link end it
        else:
            peer.drain()

    rig.open(talk_nonsense_once)
    if rig.wire == "tapped":
        rig.until(lambda: rig.link.session == 2, "a new connection")
        return
    # paho passes over some of it; none of it may end the node.
    rig.until(lambda: rig.link.session >= 1, "a connection")
    for _ in range(50):
        rig.turn()
