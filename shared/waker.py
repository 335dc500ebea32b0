"""Wakes a node's loop from another thread."""

from __future__ import annotations

import contextlib
import socket

DRAIN_BYTES = 4096


class Waker:
    """A pipe to oneself: what a thread writes, the loop's ``select`` sees.

    It opens two descriptors when it is made, for a thread may want to wake the loop before the loop
    has begun.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Returns the descriptor that becomes readable."""
        return self._reader.fileno()

    def wake(self) -> None:
        """Ends the loop's wait. From any thread."""
        # A full pipe wakes as well as a new byte; a closed one has no loop to wake.
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def drain(self) -> None:
        """Takes what was written, so that the next wait is one."""
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(DRAIN_BYTES):
                pass

    def close(self) -> None:
        """Closes both ends."""
        self._reader.close()
        self._writer.close()
