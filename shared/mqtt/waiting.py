"""Waits for what wakes a node's loop."""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import Protocol

CONNECTING_WAIT_S = 0.005
RETRY_WAIT_S = 0.05
SELECTS_BELOW = 1024
"""``select`` takes no descriptor from here on (FD_SETSIZE)."""


class HasNumber(Protocol):
    """A socket, or what stands in its place."""

    def fileno(self) -> int:
        """Returns its descriptor."""


class Wakes(Protocol):
    """What a link shows of its connection."""

    def socket(self) -> HasNumber | None:
        """Returns the socket to wait on, or None while there is none."""

    @property
    def connecting(self) -> bool:
        """Whether an attempt to connect runs."""

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait for the socket to take them."""

    @property
    def pending(self) -> bool:
        """Whether there is something to read that waiting on the socket would not show."""


def wait_for_any(links: Sequence[Wakes], wait_s: float, extra: Sequence[int] = ()) -> None:
    """Waits until a link has something to read, or takes what it has to write, or the time is up.

    Args:
        links: the links of a node.
        wait_s: how long at most.
        extra: other descriptors; one that is readable ends the wait.
    """
    readers, writers = list(extra), []
    wait_s = max(0.0, wait_s)
    for link in links:
        opened = link.socket()
        if opened is None:
            # An attempt to connect ends, and the next one falls due, without waking anybody.
            wait_s = min(wait_s, CONNECTING_WAIT_S if link.connecting else RETRY_WAIT_S)
        elif link.pending:
            return
        else:
            readers.append(opened.fileno())
            if link.wants_write:
                writers.append(opened.fileno())
    if max(readers, default=0) < SELECTS_BELOW:
        select.select(readers, writers, [], wait_s)
    else:
        _poll(readers, writers, wait_s)


def _poll(readers: Sequence[int], writers: Sequence[int], wait_s: float) -> None:
    """Waits likewise, to the millisecond only, for descriptors of any number."""
    poll = select.poll()
    for descriptor in readers:
        writes = select.POLLOUT if descriptor in writers else 0
        poll.register(descriptor, select.POLLIN | writes)
    poll.poll(wait_s * 1000)
