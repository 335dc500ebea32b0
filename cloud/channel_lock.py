"""One process at a time decides about a channel: a lock that ends with whoever holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from shared.durable import disk_trouble
from shared.errors import StorageError

WAIT_S = 10.0
LOOK_S = 0.02


class ChannelLock:
    """A lock on a file.

    Args:
        path: the file; its folder is made where it is missing.
        what: how an error calls what is locked.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._what = what

    @contextlib.contextmanager
    def held(self, wait_s: float = WAIT_S) -> Iterator[bool]:
        """Holds the lock, against other processes as well. Yields whether it could be had.

        Args:
            wait_s: how long to wait for it.

        Raises:
            StorageError: the file cannot be opened.
        """
        ends_s = time.monotonic() + wait_s
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # To be read is enough for a lock, and another user may have made the file.
            lock = os.open(self.path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise disk_trouble("open", self.path, error) from error
        try:
            while not (is_held := _try(lock)) and time.monotonic() < ends_s:
                time.sleep(LOOK_S)
            yield is_held
        finally:
            os.close(lock)

    @contextlib.contextmanager
    def claimed(self, wait_s: float = WAIT_S) -> Iterator[None]:
        """Holds the lock.

        Args:
            wait_s: how long to wait for it.

        Raises:
            StorageError: another process does not let go of it, or the file cannot be opened.
        """
        with self.held(wait_s) as is_held:
            if not is_held:
                waited = f" after {wait_s:g} s" if wait_s else ""
                raise StorageError(
                    f"another process still holds {self._what}{waited}. Fix: see whether it hangs"
                )
            yield


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
