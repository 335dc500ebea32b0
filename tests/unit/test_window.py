"""A window never asks for too much, forgets nothing, and waits longer each time."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from shared.releases.window import ASK_AGAIN_S, MAX_ASK_AGAIN_S, WINDOW, ChunkWindow


def window(missing: int, batch: int = 1) -> ChunkWindow:
    return ChunkWindow(range(missing), random.Random(1), batch)


def test_it_asks_in_order_and_for_a_window_at_most() -> None:
    chunks = window(2 * WINDOW)
    assert chunks.ask(0.0) == tuple(range(WINDOW))
    assert chunks.ask(0.0) == ()
    assert chunks.came(3, 0.0)
    assert chunks.ask(0.0) == (WINDOW,)


def test_a_chunk_that_nobody_asked_for_yet_is_taken_and_not_asked_for() -> None:
    chunks = window(WINDOW + 2)
    chunks.ask(0.0)
    assert chunks.came(WINDOW, 0.0)
    assert not chunks.came(WINDOW, 0.0)
    chunks.came(0, 0.0)
    assert chunks.ask(0.0) == (WINDOW + 1,)


def test_a_batch_waits_for_room_unless_fewer_are_left() -> None:
    chunks = window(WINDOW + 6, batch=4)
    chunks.ask(0.0)
    asked = []
    for index in range(10):
        chunks.came(index, 0.0)
        asked.append(chunks.ask(0.0))
    sizes = [len(each) for each in asked]
    assert sizes == [0, 0, 0, 4, 0, 2, 0, 0, 0, 0]


def test_what_does_not_come_goes_behind_the_rest_so_that_lost_chunks_block_nothing() -> None:
    chunks = window(WINDOW + 3)
    chunks.ask(0.0)
    late = chunks.time_out(ASK_AGAIN_S)
    assert late == tuple(range(WINDOW))
    assert chunks.ask(ASK_AGAIN_S)[:4] == (WINDOW, WINDOW + 1, WINDOW + 2, 0)


def test_it_waits_from_the_last_chunk_that_came_and_longer_after_each_time_out() -> None:
    chunks = window(WINDOW)
    chunks.ask(0.0)
    chunks.came(0, 100.0)
    assert chunks.time_out(100.0 + ASK_AGAIN_S / 2) == ()
    now_s, waits_s = 100.0, []
    for _ in range(8):
        began_s = now_s
        while not chunks.time_out(now_s):
            now_s += 0.1
        waits_s.append(now_s - began_s)
        chunks.ask(now_s)
    assert waits_s[0] <= ASK_AGAIN_S + 0.2
    assert waits_s[2] > ASK_AGAIN_S * 2
    assert max(waits_s) <= MAX_ASK_AGAIN_S + 0.2
    assert waits_s[-1] > MAX_ASK_AGAIN_S / 2


def test_a_sender_that_is_away_for_days_is_asked_on() -> None:
    chunks = window(3)
    for turn in range(3000):
        chunks.ask(turn * MAX_ASK_AGAIN_S)
        assert chunks.time_out((turn + 1) * MAX_ASK_AGAIN_S)
    assert chunks.ask(3000 * MAX_ASK_AGAIN_S)


def test_after_a_whole_window_without_a_time_out_it_waits_a_short_time_again() -> None:
    chunks = window(4 * WINDOW)
    now_s = 0.0
    for _ in range(6):
        chunks.ask(now_s)
        now_s += MAX_ASK_AGAIN_S
        assert chunks.time_out(now_s)
    for _ in range(WINDOW):
        index = (*chunks.asked, *chunks.ask(now_s))[0]
        chunks.came(index, now_s)
    chunks.ask(now_s)
    assert chunks.time_out(now_s + ASK_AGAIN_S)


def test_two_nodes_ask_again_at_different_times() -> None:
    due = set()
    for seed in range(20):
        chunks = ChunkWindow(range(3), random.Random(seed))
        chunks.ask(0.0)
        due.add(next(each for each in range(100) if chunks.time_out(each * ASK_AGAIN_S / 100)))
    assert len(due) > 10


def test_what_was_withdrawn_is_asked_for_first() -> None:
    chunks = window(WINDOW + 2)
    first = chunks.ask(0.0)
    chunks.withdraw()
    assert chunks.asked == ()
    assert chunks.ask(0.0) == first


@given(st.lists(st.tuples(st.sampled_from("acwt"), st.integers(0, 39)), max_size=60))
def test_whatever_happens_nothing_is_lost_and_nothing_asked_twice(
    course: list[tuple[str, int]],
) -> None:
    chunks, left, now_s = window(40), set(range(40)), 0.0
    for event, index in course:
        now_s += 1.0
        if event == "a":
            before = set(chunks.asked)
            assert not before & set(chunks.ask(now_s))
        elif event == "c":
            assert chunks.came(index, now_s) == (index in left)
            left.discard(index)
        elif event == "w":
            chunks.withdraw()
        else:
            chunks.time_out(now_s)
        assert len(chunks.asked) <= WINDOW
        assert {each for each in range(40) if each in chunks} == left
    assert chunks.empty == (not left)
