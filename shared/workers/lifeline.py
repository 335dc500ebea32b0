"""A worker does not outlive its supervisor, not even one that was killed."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time

GRACE_S = 10.0

log = logging.getLogger(__name__)


def hold_lifeline() -> None:
    """Ends this process once the other end of its standard input is closed.

    The supervisor holds that end and never writes. However the supervisor ends, on any POSIX system
    the kernel closes it. The node is told to stop first, and ended if it does not.
    """
    threading.Thread(target=_wait, args=(sys.stdin.fileno(),), name="lifeline", daemon=True).start()


def _wait(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    log.error("the supervisor is gone")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)
