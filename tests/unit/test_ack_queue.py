"""Acknowledgements leave in the order of arrival."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.mqtt.ack_queue import AckQueue


def test_a_message_done_first_waits_for_the_ones_before_it() -> None:
    queue = AckQueue()
    queue.add((7, 8, 9))
    assert queue.done(9) == []
    assert queue.done(8) == []
    assert queue.done(7) == [7, 8, 9]
    assert len(queue) == 0


def test_after_clear_an_earlier_connections_message_releases_nothing() -> None:
    queue = AckQueue()
    queue.add([1])
    queue.clear()
    queue.add([2])
    assert len(queue) == 1
    assert queue.done(2) == [2]


def test_a_number_that_the_broker_uses_again_is_acknowledged_again() -> None:
    queue = AckQueue()
    for _ in range(3):
        queue.add([1])
        assert queue.done(1) == [1]


@given(st.permutations(list(range(1, 13))))
def test_any_order_of_work_acknowledges_each_message_once_in_the_order_of_arrival(
    order: list[int],
) -> None:
    queue = AckQueue()
    queue.add(range(1, 13))
    acknowledged: list[int] = []
    for done_so_far, mid in enumerate(order, start=1):
        acknowledged += queue.done(mid)
        assert len(queue) == 12 - len(acknowledged)
        assert set(acknowledged) <= set(order[:done_so_far])
    assert acknowledged == list(range(1, 13))


def test_a_message_that_comes_again_while_it_waits_keeps_its_one_place() -> None:
    queue = AckQueue()
    queue.add([1])
    queue.add([1])
    queue.add([2])
    assert queue.done(1) == [1]
    assert queue.done(2) == [2]
    assert len(queue) == 0


def test_a_message_done_twice_leaves_the_next_one_of_its_number_waiting() -> None:
    queue = AckQueue()
    queue.add([1])
    assert queue.done(1) == [1]
    assert queue.done(1) == []
    queue.add([2, 1])
    assert queue.done(2) == [2]
    assert queue.done(1) == [1]
