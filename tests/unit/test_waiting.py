"""The loop's wait ends when there is something to do."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from shared.mqtt.waiting import wait_for_any

LONG_S = 600.0


class Connection:
    """What a link shows of its connection."""

    def __init__(self, opened: socket.socket | None) -> None:
        self.opened = opened
        self.wants_write = False
        self.pending = False
        self.connecting = opened is None

    def socket(self) -> socket.socket | None:
        return self.opened


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_it_ends_when_a_link_can_be_read(pair: tuple[socket.socket, socket.socket]) -> None:
    sender = threading.Timer(0.01, pair[1].send, (b"x",))
    sender.start()
    wait_for_any([Connection(pair[0])], LONG_S)
    sender.join()
    assert pair[0].recv(1) == b"x"


def test_it_ends_when_a_link_takes_what_it_has_to_write(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    link = Connection(pair[0])
    link.wants_write = True
    wait_for_any([link], LONG_S)


def test_it_ends_at_once_when_something_is_there_that_no_socket_shows(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    link = Connection(pair[0])
    link.pending = True
    wait_for_any([link], LONG_S)


@pytest.mark.parametrize("connecting", [True, False], ids=["no link yet", "a quiet link"])
def test_another_descriptor_ends_it_too(
    pair: tuple[socket.socket, socket.socket], connecting: bool
) -> None:
    quiet = None if connecting else socket.socketpair()
    link = Connection(None if quiet is None else quiet[0])
    pair[1].send(b"x")
    wait_for_any([link], LONG_S, (pair[0].fileno(),))
    for each in quiet or ():
        each.close()


def test_a_link_that_connects_is_looked_after_soon() -> None:
    wait_for_any([Connection(None)], LONG_S)


def test_it_ends_when_the_time_is_up(pair: tuple[socket.socket, socket.socket]) -> None:
    wait_for_any([Connection(pair[0])], 0.0)
    wait_for_any([Connection(pair[0])], -1.0)
    wait_for_any([], 0.0)


def test_a_descriptor_beyond_what_select_takes_is_waited_for() -> None:
    sockets: list[socket.socket] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("this process may not open so many")
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
        while not sockets or sockets[-1].fileno() <= 1024:
            sockets += socket.socketpair()
        sockets[-2].send(b"x")
        began_s = time.monotonic()
        wait_for_any([Connection(sockets[-1])], LONG_S)
        assert time.monotonic() - began_s < LONG_S
    finally:
        for each in sockets:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
