"""What was published is kept until it is acknowledged, and leaves in order, never too much."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.mqtt.outbox import (
    MAX_BYTES,
    MAX_FUTILE_CONNECTIONS,
    MAX_MESSAGES,
    QUARTER,
    Outbox,
    PacketIds,
)
from shared.mqtt.packets import DUP, encode_publish, encode_topic

TOPIC = encode_topic("t")
NO_LIMIT = 65_535


def begun(receive_maximum: int = NO_LIMIT) -> Outbox:
    outbox = Outbox()
    assert outbox.begin(0.0, present=False, receive_maximum=receive_maximum) == []
    return outbox


def add(outbox: Outbox, payload: bytes = b"x", told: list[bytes] | None = None) -> tuple[int, bool]:
    mid = outbox.next_mid()
    packet = encode_publish(TOPIC, payload, mid)
    on_ack = None if told is None else partial(told.append, payload)
    return mid, outbox.add(mid, packet, on_ack)


def payloads(packets: list[bytes]) -> list[bytes]:
    return [packet[7:] for packet in packets]


def flags(packets: list[bytes]) -> list[bool]:
    return [bool(packet[0] & DUP) for packet in packets]


# Numbers


def test_our_numbers_are_none_that_paho_is_about_to_take() -> None:
    ids, paho, ours = PacketIds(), 0, 0
    for _ in range(5 * 65_535):
        paho = paho % 65_535 + 1
        ids.note(paho)
        ours = ids.take()
        assert 1 <= ours <= 65_535
        # Paho would have to subscribe 16,000 times before it comes to the number.
        assert (ours - paho) % 65_536 >= QUARTER - 1


def test_a_number_that_is_in_use_is_passed_over() -> None:
    outbox = begun()
    mids = [add(outbox)[0] for _ in range(3)]
    outbox.acknowledged([mids[0], mids[2]])
    seen = {outbox.next_mid() for _ in range(QUARTER - 1)}
    assert mids[1] not in seen
    assert mids[0] in seen


# The window


def test_no_more_is_in_flight_than_the_broker_takes() -> None:
    outbox = begun(receive_maximum=2)
    added = [add(outbox, b"%d" % index) for index in range(4)]
    assert [now for _, now in added] == [True, True, False, False]
    assert outbox.release() == []
    outbox.acknowledged([added[0][0]])
    assert payloads(outbox.release()) == [b"2"]


def test_a_new_message_does_not_overtake_those_that_are_held() -> None:
    outbox = begun(receive_maximum=1)
    first, _ = add(outbox, b"1")
    add(outbox, b"2")
    outbox.acknowledged([first])
    assert add(outbox, b"3")[1] is False
    assert payloads(outbox.release()) == [b"2"]


def test_it_is_full_at_so_many_messages() -> None:
    outbox = begun()
    for _ in range(MAX_MESSAGES):
        assert not outbox.is_full
        add(outbox)
    assert outbox.is_full


def test_it_is_full_at_so_many_bytes_and_has_room_again() -> None:
    outbox = begun()
    mid, _ = add(outbox, bytes(MAX_BYTES))
    assert outbox.is_full
    outbox.acknowledged([mid])
    assert not outbox.is_full


# Acknowledgements


def test_who_waits_is_told_in_order_and_a_stranger_tells_nobody() -> None:
    outbox = begun()
    told: list[bytes] = []
    mids = [add(outbox, payload, told)[0] for payload in (b"a", b"b")]
    for on_ack in outbox.acknowledged([mids[1], 4, mids[0], mids[0]]):
        on_ack()
    assert told == [b"b", b"a"]
    assert len(outbox) == 0


# A new connection


def test_a_broker_that_knows_us_gets_what_was_sent_with_the_flag() -> None:
    outbox = begun(receive_maximum=2)
    mids = [add(outbox, b"%d" % index)[0] for index in range(4)]
    outbox.acknowledged([mids[0]])
    outbox.lost(soon=True)
    again = outbox.begin(1.0, present=True, receive_maximum=NO_LIMIT)
    assert payloads(again) == [b"1", b"2", b"3"]
    assert flags(again) == [True, False, False]


def test_a_broker_that_forgot_us_gets_it_as_new() -> None:
    outbox = begun()
    add(outbox, b"1")
    outbox.begin(1.0, present=True, receive_maximum=NO_LIMIT)
    assert flags(outbox.begin(2.0, present=False, receive_maximum=NO_LIMIT)) == [False]


def test_a_new_connections_window_holds_for_what_is_sent_again() -> None:
    outbox = begun()
    mids = [add(outbox, b"%d" % index)[0] for index in range(5)]
    assert payloads(outbox.begin(1.0, present=False, receive_maximum=2)) == [b"0", b"1"]
    assert add(outbox, b"5")[1] is False
    outbox.acknowledged(mids[:2])
    assert payloads(outbox.release()) == [b"2", b"3"]


def test_what_nobody_wants_any_more_is_not_sent_again() -> None:
    outbox = begun()
    told: list[bytes] = []
    for payload, expires_s in ((b"old", 5.0), (b"young", 50.0)):
        mid, _ = add(outbox, payload, told)
        outbox.expire_at(mid, expires_s)
    add(outbox, b"for ever")
    again = outbox.begin(5.0, present=True, receive_maximum=NO_LIMIT)
    assert payloads(again) == [b"young", b"for ever"]
    assert told == []


# A message that ends connections


def futile_connection(outbox: Outbox, *, soon: bool = True) -> object:
    outbox.begin(0.0, present=False, receive_maximum=NO_LIMIT)
    return outbox.lost(soon=soon)


def test_the_first_in_flight_is_given_up_when_connection_after_connection_ends_on_it() -> None:
    outbox = begun()
    told: list[bytes] = []
    add(outbox, b"poison", told)
    add(outbox, b"good")
    for _ in range(MAX_FUTILE_CONNECTIONS - 1):
        assert futile_connection(outbox) is None
    outbox.begin(0.0, present=False, receive_maximum=NO_LIMIT)
    refusal = outbox.lost(soon=True)
    assert refusal is not None
    assert refusal.on_ack is not None
    refusal.on_ack()
    assert told == [b"poison"]
    assert payloads(outbox.begin(0.0, present=False, receive_maximum=NO_LIMIT)) == [b"good"]
    assert outbox.lost(soon=True) is None


def test_attempts_in_vain_blame_no_message() -> None:
    outbox = begun()
    add(outbox)
    for _ in range(10 * MAX_FUTILE_CONNECTIONS):
        assert outbox.lost(soon=True) is None
    assert len(outbox) == 1


@pytest.mark.parametrize("kind", ["acknowledgement", "long connection"])
def test_one_good_connection_clears_the_suspicion(kind: str) -> None:
    outbox = begun()
    add(outbox)
    for _ in range(3):
        for _ in range(MAX_FUTILE_CONNECTIONS - 1):
            assert futile_connection(outbox) is None
        outbox.begin(0.0, present=False, receive_maximum=NO_LIMIT)
        if kind == "acknowledgement":
            outbox.acknowledged([add(outbox)[0]])
        assert outbox.lost(soon=kind == "acknowledgement") is None
    assert len(outbox) == 1


def test_connections_that_end_with_nothing_in_flight_blame_no_message() -> None:
    outbox = begun()
    for _ in range(3 * MAX_FUTILE_CONNECTIONS):
        assert futile_connection(outbox) is None


class Publishing(RuleBasedStateMachine):
    """A broker that acknowledges some of what it gets, and loses the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = begun(receive_maximum=3)
        self.window = 3
        self.wanted: list[bytes] = []
        self.told: list[bytes] = []
        self.wire: list[bytes] = []
        self.got: list[bytes] = []

    @rule()
    def publish(self) -> None:
        payload = b"%d" % len(self.wanted)
        self.wanted.append(payload)
        mid = self.outbox.next_mid()
        packet = encode_publish(TOPIC, payload, mid)
        if self.outbox.add(mid, packet, partial(self.told.append, payload)):
            self.wire.append(packet)

    @precondition(lambda self: self.wire)
    @rule()
    def acknowledge_the_oldest(self) -> None:
        packet = self.wire.pop(0)
        self.got.append(packet[7:])
        for on_ack in self.outbox.acknowledged([int.from_bytes(packet[5:7], "big")]):
            on_ack()
        self.wire += self.outbox.release()

    @rule(present=st.booleans(), window=st.integers(1, 5))
    def connect_anew(self, present: bool, window: int) -> None:
        self.outbox.lost(soon=False)
        self.window = window
        self.wire = self.outbox.begin(0.0, present=present, receive_maximum=window)

    @invariant()
    def the_window_holds(self) -> None:
        assert len(self.wire) <= self.window

    @invariant()
    def all_is_told_or_kept_and_in_order(self) -> None:
        assert self.told == self.wanted[: len(self.told)]
        assert len(self.told) + len(self.outbox) == len(self.wanted)
        assert payloads(self.wire) == self.wanted[len(self.told) : len(self.told) + len(self.wire)]


TestPublishing = Publishing.TestCase
