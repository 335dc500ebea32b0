"""What the broker brings again is recognised, and nothing else is."""

from __future__ import annotations

from msgspec.structs import replace

from shared.mqtt.message import Message
from tier1.deliveries import MAX_ANSWERED, Deliveries

FIRST = Message("p/s/m/samples/cam", b"[1]", 1, 7, 1)
AGAIN = replace(FIRST, session=2, dup=True)


def test_a_repetition_of_what_is_under_way_takes_its_place() -> None:
    deliveries = Deliveries()
    deliveries.begin(FIRST)
    assert deliveries.is_under_way(AGAIN)
    assert deliveries.end(FIRST) == AGAIN


def test_a_repetition_of_what_is_answered_is_known() -> None:
    deliveries = Deliveries()
    deliveries.begin(FIRST)
    deliveries.answered(FIRST)
    deliveries.end(FIRST)
    assert not deliveries.is_under_way(AGAIN)
    assert deliveries.is_answered(AGAIN)


def test_what_could_not_be_answered_is_taken_on_again() -> None:
    deliveries = Deliveries()
    deliveries.begin(FIRST)
    deliveries.end(FIRST)
    assert not deliveries.is_under_way(AGAIN)
    assert not deliveries.is_answered(AGAIN)


def test_without_the_dup_flag_the_same_bytes_are_another_sample() -> None:
    deliveries = Deliveries()
    deliveries.begin(FIRST)
    deliveries.answered(FIRST)
    assert not deliveries.is_under_way(replace(FIRST, session=2))
    assert not deliveries.is_answered(replace(FIRST, session=2))


def test_another_payload_under_the_same_number_is_another_sample() -> None:
    deliveries = Deliveries()
    deliveries.begin(FIRST)
    assert not deliveries.is_under_way(replace(AGAIN, payload=b"[2]"))


def test_qos_0_is_never_remembered() -> None:
    deliveries = Deliveries()
    once = Message("p/s/m/samples/cam", b"[1]", 0, 0, 1)
    deliveries.begin(once)
    deliveries.answered(once)
    assert not deliveries.is_under_way(replace(once, dup=True))
    assert not deliveries.is_answered(replace(once, dup=True))


def test_only_the_last_answers_are_remembered() -> None:
    deliveries = Deliveries()
    for mid in range(1, MAX_ANSWERED + 2):
        deliveries.answered(replace(FIRST, mid=mid))
    assert not deliveries.is_answered(replace(AGAIN, mid=1))
    assert deliveries.is_answered(replace(AGAIN, mid=2))
