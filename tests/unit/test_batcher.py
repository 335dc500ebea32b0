"""A batch is due when it is full or its first item has waited long enough."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.batcher import Batcher


def test_without_a_delay_it_hands_out_what_is_there_at_once() -> None:
    batcher: Batcher[str] = Batcher(8, 0.0, 100)
    batcher.add("a", 1.0)
    batcher.add("b", 1.0)
    assert batcher.poll(1.0) == ["a", "b"]
    assert batcher.poll(1.0) == []


def under_load(max_batch_size: int, now_s: float) -> Batcher[str]:
    """A batcher with a delay of 1 s that has just handed out a batch."""
    batcher: Batcher[str] = Batcher(max_batch_size, 1.0, 100)
    batcher.add("before", now_s)
    assert batcher.poll(now_s) == ["before"]
    return batcher


def test_a_lone_item_after_a_silence_does_not_wait() -> None:
    batcher = under_load(8, 10.0)
    batcher.add("a", 11.0)
    assert batcher.poll(11.0) == ["a"]


def test_the_wait_begins_with_the_first_item_not_with_the_last() -> None:
    batcher = under_load(8, 9.9)
    batcher.add("a", 10.0)
    batcher.add("b", 10.9)
    assert batcher.poll(10.99) == []
    assert batcher.due_s() == 11.0
    assert batcher.poll(11.0) == ["a", "b"]


def test_a_full_batch_does_not_wait_and_leaves_the_rest_its_own_due_time() -> None:
    batcher = under_load(2, 0.0)
    for item, now_s in (("a", 0.1), ("b", 0.2), ("c", 0.3)):
        batcher.add(item, now_s)
    assert batcher.poll(0.3) == ["a", "b"]
    assert batcher.poll(0.3) == []
    assert batcher.due_s() == 1.3


def test_a_full_queue_refuses_the_newest_and_keeps_the_older() -> None:
    batcher: Batcher[int] = Batcher(8, 0.0, 2)
    assert [batcher.add(item, 0.0) for item in range(3)] == [True, True, False]
    assert batcher.poll(0.0) == [0, 1]


def test_items_count_as_many_as_they_are() -> None:
    batcher: Batcher[str] = Batcher(8, 0.0, 10)
    assert batcher.add("six", 0.0, 6)
    assert batcher.add("four", 0.0, 4)
    assert not batcher.add("one", 0.0, 1)
    assert len(batcher) == 10
    assert [batcher.poll(0.0), batcher.poll(0.0)] == [["six"], ["four"]]
    assert len(batcher) == 0


def test_an_item_larger_than_a_batch_goes_alone_and_one_larger_than_the_queue_never() -> None:
    batcher: Batcher[str] = Batcher(4, 0.0, 10)
    assert not batcher.add("eleven", 0.0, 11)
    assert batcher.add("nine", 0.0, 9)
    assert batcher.add("one", 0.0, 1)
    assert batcher.poll(0.0) == ["nine"]


def test_the_oldest_can_make_room() -> None:
    batcher: Batcher[str] = Batcher(4, 0.0, 2)
    batcher.add("a", 0.0)
    batcher.add("b", 0.0)
    assert batcher.drop_oldest() == "a"
    assert batcher.add("c", 0.0)
    assert batcher.poll(0.0) == ["b", "c"]
    assert batcher.drop_oldest() is None


def test_an_empty_batcher_is_never_due() -> None:
    batcher: Batcher[int] = Batcher(8, 0.0, 2)
    assert batcher.due_s() is None
    assert batcher.poll(1e9) == []


@given(
    st.lists(st.tuples(st.sampled_from(["add", "poll"]), st.floats(0, 3)), max_size=60),
    st.integers(1, 5),
    st.floats(0, 4),
    st.integers(1, 10),
)
def test_every_item_taken_leaves_once_in_order_and_none_waits_past_its_due_time(
    steps: list[tuple[str, float]], max_batch_size: int, max_delay_s: float, queue_size: int
) -> None:
    batcher: Batcher[int] = Batcher(max_batch_size, max_delay_s, queue_size)
    now_s, taken, out = 0.0, list[int](), list[int]()
    for number, (step, passed_s) in enumerate(steps):
        now_s += passed_s
        if step == "add":
            fits = len(taken) - len(out) < queue_size
            assert batcher.add(number, now_s) is fits
            taken += [number] if fits else []
        else:
            batch = batcher.poll(now_s)
            out += batch
            assert len(batch) <= max_batch_size
            due_s = batcher.due_s()
            if not batch:
                assert due_s is None or due_s > now_s
        assert len(batcher) == len(taken) - len(out)
    while batch := batcher.poll(now_s + max_delay_s):
        out += batch
    assert out == taken
