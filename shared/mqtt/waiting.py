"""Waits for what wakes a node's loop."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Protocol

CONNECTING_WAIT_S = 0.005


class Wakes(Protocol):
    """What a link shows of its connection."""

    def socket(self) -> object | None:
        """Returns the socket to wait on, or None while there is none."""

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
    # Not ``select``: it takes no descriptor above 1023.
    poll, waited, connecting = select.poll(), len(extra), False
    for descriptor in extra:
        poll.register(descriptor, select.POLLIN)
    for link in links:
        opened = link.socket()
        if opened is None:
            connecting = True
            continue
        if link.pending:
            return
        waited += 1
        events = select.POLLIN | select.POLLOUT if link.wants_write else select.POLLIN
        poll.register(opened.fileno(), events)  # type: ignore[attr-defined]
    wait_s = max(0.0, wait_s)
    if connecting:
        # The attempt to connect ends without waking anybody.
        wait_s = min(wait_s, CONNECTING_WAIT_S)
    if waited:
        poll.poll(wait_s * 1000)
    else:
        time.sleep(wait_s)
