"""What the broker brings again is recognised, and nothing else is."""

from __future__ import annotations

from msgspec.structs import replace

from shared.mqtt.message import Message
from tier1.deliveries import MAX_ANSWERED, Deliveries, Taken, made_id

FIRST = Message("p/s/m/samples/cam", b"[1]", 1, 7, 1)
AGAIN = replace(FIRST, session=2, dup=True)


def taken(message: Message) -> Taken:
    return Taken(message, "cam", 0.0, [1.0], "id", 5.0)


def begun(message: Message) -> tuple[Deliveries, Taken]:
    deliveries, sample = Deliveries(), taken(message)
    deliveries.begin(sample)
    return deliveries, sample


def test_a_repetition_of_what_is_under_way_takes_its_place() -> None:
    deliveries, sample = begun(FIRST)
    assert deliveries.is_under_way(AGAIN)
    assert deliveries.end(sample) is AGAIN


def test_a_repetition_of_what_is_answered_is_known() -> None:
    deliveries, sample = begun(FIRST)
    deliveries.answered(sample)
    deliveries.end(sample)
    assert not deliveries.is_under_way(AGAIN)
    assert deliveries.is_answered(AGAIN)


def test_a_repetition_of_what_is_answered_is_known_on_each_later_connection() -> None:
    deliveries, sample = begun(FIRST)
    deliveries.answered(sample)
    for session in (2, 3, 4):
        assert deliveries.is_answered(replace(AGAIN, session=session))


def test_the_same_bytes_under_the_same_number_long_after_are_another_sample() -> None:
    # A broker that lost our session counts from 1 again, and this delivery is the first we see.
    deliveries, sample = begun(FIRST)
    deliveries.answered(sample)
    assert not deliveries.is_answered(replace(AGAIN, session=3))


def test_what_could_not_be_answered_is_taken_on_again() -> None:
    deliveries, sample = begun(FIRST)
    deliveries.end(sample)
    assert not deliveries.is_under_way(AGAIN)
    assert not deliveries.is_answered(AGAIN)


def test_without_the_dup_flag_the_same_bytes_are_another_sample() -> None:
    deliveries, sample = begun(FIRST)
    deliveries.answered(sample)
    assert not deliveries.is_under_way(replace(FIRST, session=2))
    assert not deliveries.is_answered(replace(FIRST, session=2))


def test_another_payload_under_the_same_number_is_another_sample() -> None:
    deliveries, sample = begun(FIRST)
    assert not deliveries.is_under_way(replace(AGAIN, payload=b"[2]"))
    deliveries.answered(sample)
    assert not deliveries.is_answered(replace(AGAIN, payload=b"[2]"))


def test_a_new_sample_under_the_number_of_an_older_one_leaves_each_its_own_end() -> None:
    # The broker lost our session and counts from 1 again while the older one still waits.
    deliveries, older = begun(FIRST)
    newer = taken(Message("p/s/m/samples/cam", b"[2]", 1, 7, 2))
    deliveries.begin(newer)
    assert deliveries.end(older) is FIRST
    assert deliveries.is_under_way(replace(newer.message, session=3, dup=True))


def test_only_the_last_answers_are_remembered() -> None:
    deliveries = Deliveries()
    for mid in range(1, MAX_ANSWERED + 2):
        deliveries.answered(taken(replace(FIRST, mid=mid)))
    assert not deliveries.is_answered(replace(AGAIN, mid=1))
    assert deliveries.is_answered(replace(AGAIN, mid=2))


def test_qos_0_is_never_remembered() -> None:
    once = Message("p/s/m/samples/cam", b"[1]", 0, 0, 1)
    deliveries, sample = begun(once)
    deliveries.answered(sample)
    assert not deliveries.is_under_way(replace(once, dup=True))
    assert not deliveries.is_answered(replace(once, dup=True))


def test_what_is_delivered_twice_gets_the_same_made_id() -> None:
    assert made_id(FIRST, "tier1-a") == made_id(AGAIN, "tier1-a")


def test_another_delivery_gets_another_made_id() -> None:
    others = [
        replace(FIRST, mid=8),
        replace(FIRST, payload=b"[2]"),
        replace(FIRST, topic="p/s/m/samples/cat"),
    ]
    assert len({made_id(message, "tier1-a") for message in (FIRST, *others)}) == 4


def test_another_session_gets_another_made_id() -> None:
    assert made_id(FIRST, "tier1-a") != made_id(FIRST, "tier1-a.w1")


def test_at_qos_0_the_same_bytes_are_another_sample() -> None:
    once = Message("p/s/m/samples/cam", b"[1]", 0, 0, 1)
    assert made_id(once, "tier1-a") != made_id(once, "tier1-a")
