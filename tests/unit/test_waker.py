"""A thread can end the loop's wait."""

from __future__ import annotations

import select
import threading

from shared.waker import Waker


def is_readable(waker: Waker, wait_s: float = 0.0) -> bool:
    return bool(select.select([waker.fileno()], [], [], wait_s)[0])


def test_a_wake_from_another_thread_is_seen_until_it_is_taken() -> None:
    waker = Waker()
    assert not is_readable(waker)
    thread = threading.Thread(target=waker.wake)
    thread.start()
    assert is_readable(waker, 30.0)
    thread.join()
    waker.drain()
    assert not is_readable(waker)
    waker.close()


def test_more_wakes_than_the_pipe_holds_block_nobody() -> None:
    waker = Waker()
    for _ in range(100_000):
        waker.wake()
    waker.drain()
    assert not is_readable(waker)
    waker.close()


def test_a_wake_after_the_end_is_ignored() -> None:
    waker = Waker()
    waker.close()
    waker.wake()
