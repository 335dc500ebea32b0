"""What the code expects of a link holds for the fake, and on every broker in every way."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from escalon.demo.broker import BrokerProcess, open_broker
from shared.errors import PayloadError
from shared.mqtt.link import Link
from shared.mqtt.message import Message, Will
from shared.mqtt.milestone import Milestone
from shared.mqtt.packets import DUP, PUBLISH
from shared.mqtt.shared_subscriptions import SharedProbe, Verdict
from tests.fakes import FakeBroker, FakeLink, wait_until
from tests.integration.stations import (
    KINDS,
    Kind,
    Station,
    published,
    settle,
    take,
    turn,
    turn_until,
)


@pytest.fixture(scope="module")
def brokers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, BrokerProcess]]:
    running: dict[str, BrokerProcess] = {}
    yield running
    for broker in running.values():
        broker.stop()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def station(
    request: pytest.FixtureRequest,
    brokers: dict[str, BrokerProcess],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Station]:
    kind: Kind = request.param
    if kind.broker == "fake":
        opened = Station(kind, FakeBroker(delivers_shared=True))
    else:
        if kind.broker == "mosquitto":
            request.getfixturevalue("require_mosquitto")
        if kind.broker not in brokers:
            folder: Path = tmp_path_factory.mktemp(kind.broker)
            brokers[kind.broker] = open_broker(folder, kind.broker)
            brokers[kind.broker].start()
        opened = Station(kind, brokers[kind.broker])
    yield opened
    opened.close()


@pytest.fixture
def topic() -> str:
    return f"contract/{random.getrandbits(64):016x}"


def publish_all(link: Link, topic: str, payloads: list[bytes], reader: Link) -> list[Message]:
    """Publishes, again where there was no room; returns what the reader got meanwhile."""
    waiting, acknowledged = list(payloads), []
    arrived: list[Message] = []

    def through() -> bool:
        while waiting and link.publish(topic, waiting[0], on_ack=lambda: acknowledged.append(1)):
            waiting.pop(0)
        arrived.extend(turn(reader, link))
        return len(acknowledged) == len(payloads) and len(arrived) >= len(payloads)

    wait_until(through, "every acknowledgement and every message")
    return arrived


def sent_publishes(station: Station, link: Link) -> list[tuple[int, bool]]:
    """Returns connection and DUP flag of each PUBLISH at QoS 1 that a link has sent."""
    return [
        (packet.connection, bool(packet.head & DUP))
        for packet in station.proxy(link).packets()
        if packet.head & 0xF6 == PUBLISH | 2
    ]


def need_sessions(station: Station) -> None:
    if not station.kind.keeps_sessions:
        pytest.skip("the embedded broker keeps no session of a client that is away")


def need_proxy(station: Station) -> None:
    if station.kind.broker == "fake":
        pytest.skip("the fake has no bytes on a wire")


# What goes out and comes in


def test_what_is_published_arrives_with_the_subscriptions_qos(station: Station, topic: str) -> None:
    sender, reader = station.link(), station.link()
    reader.subscribe(f"{topic}/one", 1)
    reader.subscribe(f"{topic}/zero", 0)
    settle(reader, topic)
    published(sender, f"{topic}/one", b"1")
    (first,) = take(reader, 1)
    assert (first.topic, first.payload, first.qos) == (f"{topic}/one", b"1", 1)
    assert first.mid > 0
    reader.done(first)
    published(sender, f"{topic}/zero", b"0")
    (second,) = take(reader, 1)
    assert (second.topic, second.qos, second.mid) == (f"{topic}/zero", 0, 0)
    assert not (first.retain or second.retain or first.dup or second.dup)


@pytest.mark.parametrize("number", [300, 2500], ids=["within the window", "beyond it"])
def test_everything_arrives_in_order_and_is_acknowledged(
    station: Station, topic: str, number: int
) -> None:
    sender, reader = station.link(), station.link()
    reader.subscribe(topic, 0)
    settle(reader, topic)
    payloads = [f"{index}".encode() for index in range(number)]
    arrived = publish_all(sender, topic, payloads, reader)
    assert [message.payload for message in arrived] == payloads
    assert sender.settled


@pytest.mark.parametrize("size", [0, 127, 128, 16_384, 500_000])
def test_a_payload_arrives_as_it_was_whatever_its_size(
    station: Station, topic: str, size: int
) -> None:
    link = station.link()
    link.subscribe(topic)
    payload = random.Random(size).randbytes(size)
    settle(link, f"{topic}/other")
    arrived = published(link, topic, payload)
    (message,) = arrived or take(link, 1)
    assert message.payload == payload


@pytest.mark.parametrize(
    ("suffix", "matches"), [("+/b", True), ("#", True), ("a/+", True), ("+", False), ("a/#", True)]
)
def test_a_wildcard_brings_what_it_matches(
    station: Station, topic: str, suffix: str, matches: bool
) -> None:
    link = station.link()
    link.subscribe(f"{topic}/{suffix}", 0)
    settle(link, f"other-{topic}")
    arrived = published(link, f"{topic}/a/b", b"x")
    if matches:
        (message,) = arrived or take(link, 1)
        assert message.topic == f"{topic}/a/b"
    else:
        settle(link, f"other-{topic}", arrived)


def test_nothing_arrives_after_unsubscribing(station: Station, topic: str) -> None:
    reader = station.link()
    reader.subscribe(topic)
    settle(reader, topic)
    reader.unsubscribe(topic)
    settle(reader, topic)
    arrived = published(reader, topic, b"for nobody")
    settle(reader, topic, arrived)


def test_without_a_connection_nothing_is_taken(station: Station, topic: str) -> None:
    link = station.link()
    link.close()
    turn_until(link, lambda: not link.connected, "the end of the connection")
    assert not link.publish(topic, b"lost")


def test_a_link_is_settled_once_everything_is_acknowledged(station: Station, topic: str) -> None:
    link = station.link()
    assert link.publish(topic, b"x")
    assert not link.settled
    turn_until(link, lambda: link.settled, "the acknowledgement")


# What is retained


def test_each_subscription_brings_what_is_retained(station: Station, topic: str) -> None:
    sender, reader = station.link(), station.link()
    published(sender, topic, b"kept", retain=True)
    for _ in range(2):
        reader.subscribe(topic, 0)
        (message,) = take(reader, 1)
        assert (message.payload, message.retain) == (b"kept", True)


def test_an_empty_payload_clears_what_is_retained(station: Station, topic: str) -> None:
    sender, reader = station.link(), station.link()
    published(sender, topic, b"kept", retain=True)
    published(sender, topic, b"", retain=True)
    reader.subscribe(topic)
    settle(reader, topic)


# What cannot be sent or taken


def test_what_can_never_be_sent_is_told_from_what_cannot_now(station: Station, topic: str) -> None:
    link = station.link(max_packet_bytes=2**17)
    with pytest.raises(PayloadError, match="max_packet_bytes") as too_large:
        link.publish(topic, bytes(2**17))
    assert too_large.value.reason == "too_large"
    for name in ("", "a/#", "+/b", "a\0b", "x" * 70_000, "\ud800"):
        with pytest.raises(PayloadError) as bad_topic:
            link.publish(name, b"x")
        assert bad_topic.value.reason == "bad_topic"
    assert link.settled
    published(link, topic, b"goes on")


def test_what_is_too_large_is_counted_acknowledged_and_does_not_come_again(
    station: Station, topic: str
) -> None:
    sender = station.link()
    reader = station.link(
        max_packet_bytes=2**17, persistent=station.kind.keeps_sessions, client_id=topic[9:]
    )
    reader.subscribe(topic)
    settle(reader, topic)
    published(sender, topic, bytes(300_000))
    published(sender, topic, b"next")
    (message,) = take(reader, 1)
    assert message.payload == b"next"
    assert reader.take_drops() == {"too_large": 1}
    assert reader.take_drops() == {}
    reader.done(message)
    if station.kind.keeps_sessions:
        session = reader.session
        settle(reader, topic)
        station.cut(reader)
        turn_until(reader, lambda: reader.session > session and reader.connected, "a connection")
        settle(reader, topic)


# What a lost connection leaves


def test_what_was_not_acknowledged_comes_again_with_its_number_and_flag(
    station: Station, topic: str
) -> None:
    need_sessions(station)
    sender, reader = station.link(), station.link(persistent=True)
    reader.subscribe(topic)
    settle(reader, topic)
    for payload in (b"a", b"b", b"c"):
        published(sender, topic, payload)
    first = take(reader, 3)
    reader.done(first[0])
    reader.done(first[2])  # not before the second one
    settle(reader, f"{topic}/sent")
    station.cut(reader)
    again = take(reader, 2)
    assert [(each.payload, each.mid, each.dup) for each in again] == [
        (each.payload, each.mid, True) for each in first[1:]
    ]
    assert {each.session for each in again} == {first[0].session + 1}
    reader.done(first[1])  # of the lost connection: acknowledges nothing
    for message in again:
        reader.done(message)
    settle(reader, f"{topic}/sent")
    station.cut(reader)
    turn_until(reader, lambda: reader.session == again[0].session + 1, "a new connection")
    settle(reader, topic)


def test_what_comes_while_a_persistent_session_is_away_waits_for_it(
    station: Station, topic: str
) -> None:
    need_sessions(station)
    sender, reader = station.link(), station.link(persistent=True)
    reader.subscribe(topic)
    settle(reader, topic)
    station.go_away(reader)
    turn_until(reader, lambda: not reader.connected, "the loss")
    if station.kind.broker == "fake":
        station.come_back(sender)  # its one broker is away for all but those that are connected
    published(sender, topic, b"meanwhile")
    if station.kind.broker != "fake":
        station.come_back(reader)
    (message,) = take(reader, 1, sender)
    assert (message.payload, message.dup) == (b"meanwhile", False)
    reader.done(message)


def test_a_subscription_that_ends_while_away_does_not_come_back_with_the_session(
    station: Station, topic: str
) -> None:
    need_sessions(station)
    reader = station.link(persistent=True)
    reader.subscribe(topic)
    settle(reader, topic)
    station.cut(reader)
    turn_until(reader, lambda: not reader.connected, "the loss") if reader.connected else None
    reader.unsubscribe(topic)
    turn_until(reader, lambda: reader.connected, "a new connection")
    arrived = published(reader, topic, b"for nobody")
    settle(reader, topic, arrived)


@pytest.mark.parametrize("persistent", [True, False], ids=["its session kept", "its session gone"])
def test_what_the_broker_did_not_acknowledge_is_sent_again(
    station: Station, topic: str, persistent: bool
) -> None:
    if persistent:
        need_sessions(station)
    reader, sender = station.link(), station.link(persistent=persistent)
    reader.subscribe(topic, 0)
    settle(reader, topic)
    station.hold_acks(sender, True)
    acknowledged: list[bytes] = []
    for payload in (b"a", b"b"):
        assert sender.publish(topic, payload, on_ack=partial(acknowledged.append, payload))
    first = take(reader, 2, sender)
    assert acknowledged == []
    station.go_away(sender)
    turn_until(sender, lambda: not sender.connected, "the loss")
    assert not sender.publish(topic, b"not taken")
    station.hold_acks(sender, False)
    station.come_back(sender)
    again = take(reader, 2, sender)
    turn_until(sender, lambda: len(acknowledged) == 2, "the acknowledgements", reader)
    assert [each.payload for each in (*first, *again)] == [b"a", b"b", b"a", b"b"]
    assert acknowledged == [b"a", b"b"]
    if station.kind.wire == "tapped" and not isinstance(sender, FakeLink):
        sent = sent_publishes(station, sender)
        assert [dup for _, dup in sent] == [False, False, persistent, persistent]


def test_a_subscription_stands_again_after_a_lost_connection(station: Station, topic: str) -> None:
    sender, reader = station.link(), station.link()
    reader.subscribe(topic, 1)
    settle(reader, topic)
    session = reader.session
    station.cut(reader)
    turn_until(reader, lambda: reader.session > session, "a new connection")
    settle(reader, f"{topic}/other")
    published(sender, topic, b"x")
    (message,) = take(reader, 1)
    assert (message.payload, message.session) == (b"x", session + 1)


def test_a_link_knows_whether_the_broker_was_away_or_only_the_connection(
    station: Station, caplog: pytest.LogCaptureFixture
) -> None:
    link = station.link()
    station.cut(link)
    turn_until(link, lambda: link.session == 2, "a new connection")
    assert not link.after_outage
    station.go_away(link)
    if isinstance(link, FakeLink):
        turn(link)
    else:
        turn_until(link, lambda: "cannot reach" in caplog.text, "an attempt in vain")
    station.come_back(link)
    turn_until(link, lambda: link.session == 3, "a new connection")
    assert link.after_outage


def test_no_more_comes_unacknowledged_than_we_said_we_take(station: Station, topic: str) -> None:
    if station.kind.protocol != "5" and station.kind.broker != "fake":
        pytest.skip("in 3.1.1 the broker alone decides")
    sender, reader = station.link(), station.link(receive_maximum=3)
    reader.subscribe(topic)
    settle(reader, topic)
    for index in range(7):
        published(sender, topic, f"{index}".encode())
    seen = take(reader, 3)
    settle(reader, f"{topic}/other")

    def all_there() -> bool:
        for message in seen[answered[0] :]:
            reader.done(message)
            answered[0] += 1
        seen.extend(turn(reader))
        return len(seen) >= 7

    answered = [0]
    wait_until(all_there, "the rest")
    assert [message.payload for message in seen] == [b"%d" % index for index in range(7)]


# Staying alive


def test_a_link_that_says_nothing_stays_connected(station: Station) -> None:
    need_proxy(station)
    link = station.link(keepalive_s=1)
    turn_until(link, lambda: station.proxy(link).pings() >= 2, "two pings")
    assert (link.connected, link.session) == (True, 1)


def test_a_link_that_only_receives_pings_all_the_same(station: Station, topic: str) -> None:
    need_proxy(station)
    sender, reader = station.link(), station.link(keepalive_s=1)
    reader.subscribe(topic, 0)

    def pinged() -> bool:
        sender.publish(topic, b"x", qos=0)
        return station.proxy(reader).pings() >= 2

    arrived = turn_until(reader, pinged, "two pings", sender)
    assert arrived
    assert (reader.connected, reader.session) == (True, 1)


def test_a_connection_that_went_dead_without_a_word_is_found(station: Station, topic: str) -> None:
    need_proxy(station)
    link = station.link(keepalive_s=1)
    station.proxy(link).mute()

    def given_up() -> bool:
        # Even one that goes on to send: nothing comes back.
        link.publish(topic, b"into the void", qos=0)
        return not link.connected

    turn_until(link, given_up, "the loss")
    station.proxy(link).unmute()
    turn_until(link, lambda: link.connected, "a new connection")
    assert link.session == 2


# The last will, and the client's name


def test_the_will_is_published_when_a_link_vanishes(station: Station, topic: str) -> None:
    observer, link = station.link(), station.link(will=Will(topic, b"gone"))
    observer.subscribe(topic, 0)
    settle(observer, topic)
    station.go_away(link)
    (message,) = take(observer, 1, link)
    assert message.payload == b"gone"
    late = station.link() if station.kind.broker != "fake" else observer
    late.subscribe(topic, 0)
    assert take(late, 1)[0].retain


def test_the_will_is_not_published_when_a_link_says_goodbye(station: Station, topic: str) -> None:
    observer, link = station.link(), station.link(will=Will(topic, b"gone"))
    observer.subscribe(topic, 0)
    settle(observer, topic)
    link.close()
    settle(observer, topic)


def test_a_second_client_of_a_name_takes_the_connection_over(station: Station, topic: str) -> None:
    if station.kind.broker == "amqtt":
        pytest.skip("the embedded broker serves two clients of one name")
    name = topic.replace("/", "-")
    first = station.link(client_id=name, will=Will(topic, b"first is gone"))
    second = station.link(client_id=name)
    second.subscribe(topic, 0)
    turn_until(first, lambda: not first.connected, "the eviction", second)
    assert second.connected
    assert take(second, 1)[0].payload == b"first is gone"


# What a link knows of its session


def test_a_link_knows_when_the_broker_has_answered_its_subscriptions(
    station: Station, topic: str
) -> None:
    link = station.link()
    turn_until(link, lambda: link.confirmed, "a link that asked for nothing")
    link.subscribe(topic, 1)
    link.forget(f"{topic}/old")
    turn_until(link, lambda: link.confirmed, "both answers")
    published(station.link(), topic, b"1")
    assert take(link, 1)[0].payload == b"1"
    station.go_away(link)
    turn_until(link, lambda: not link.connected, "the end of the connection")
    assert not link.confirmed
    station.come_back(link)
    turn_until(link, lambda: link.confirmed, "the answers on a new connection")


def test_a_link_knows_what_it_has_not_acknowledged(station: Station, topic: str) -> None:
    sender, link = station.link(), station.link()
    link.subscribe(topic, 1)
    settle(link, topic)
    for payload in (b"1", b"2"):
        published(sender, topic, payload)
    first, second = take(link, 2)
    assert link.unacknowledged == 2
    link.done(second)
    assert link.owes(second), "what came before it is not acknowledged"
    link.done(first)
    assert not link.owes(first)
    assert not link.owes(second)
    assert link.unacknowledged == 0


def test_a_milestone_comes_behind_all_that_a_session_holds(station: Station, topic: str) -> None:
    need_sessions(station)
    sender, link = station.link(), station.link(persistent=True, receive_maximum=5)
    link.subscribe(topic, 1)
    settle(link, topic)
    for number in range(30):
        published(sender, topic, b"%d" % number)
    milestone = Milestone(link, f"{topic}/milestone", random.Random(1))
    milestone.begin()
    answered: list[bytes] = []
    in_hand: list[Message] = []

    def passed() -> bool:
        for message in turn(link):
            if milestone.take(message):
                link.done(message)
            else:
                in_hand.append(message)
        milestone.poll()
        assert not milestone.passed or len(answered) == 30
        if in_hand:
            answered.append(in_hand[0].payload)
            link.done(in_hand.pop(0))
        return milestone.passed

    wait_until(passed, "the milestone")
    assert answered == [b"%d" % number for number in range(30)]
    settle(link, f"{topic}/after")


# Shared subscriptions


def test_the_probe_tells_a_broker_that_delivers_shared_subscriptions_from_one_that_does_not(
    station: Station, topic: str
) -> None:
    link = station.link()
    probe = SharedProbe(link, topic, f"{topic}/plain", random.Random(1))

    def ended() -> bool:
        probe.poll(time.monotonic())
        for message in turn(link):
            assert probe.take(message)
        return probe.verdict is not Verdict.UNKNOWN

    wait_until(ended, "the verdict")
    delivers = station.kind.broker != "amqtt"
    assert probe.verdict is (Verdict.DELIVERED if delivers else Verdict.NOT_DELIVERED)
    settle(link, f"{topic}/after")


def test_a_message_of_a_group_goes_to_one_of_its_members(station: Station, topic: str) -> None:
    if station.kind.broker == "amqtt":
        pytest.skip("the embedded broker delivers no shared subscription")
    sender, members = station.link(), [station.link(), station.link()]
    for member in members:
        member.subscribe(f"$share/group/{topic}", 0)
        settle(member, topic)
    for index in range(20):
        published(sender, topic, f"{index}".encode())
    got: list[list[Message]] = [[], []]

    def all_there() -> bool:
        for member, messages in zip(members, got, strict=True):
            messages.extend(turn(member))
        return sum(map(len, got)) >= 20

    wait_until(all_there, "all messages")
    payloads = sorted(int(message.payload) for messages in got for message in messages)
    assert payloads == list(range(20))
    assert all(got)
