"""What a child process gives up before it touches a model that nobody vouches for.

It stands here without numpy and ONNX Runtime: a namespace is given only to a process that has one
thread, and some builds of numpy start theirs when they are imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import sys
import termios
from pathlib import Path

from shared.releases.memory import available_bytes, virtual_bytes

MAX_OPEN_FILES = 64
MAX_WRITTEN_BYTES = 2**20
GRACE_S = 10.0  # the parent is to notice first
ORPHANED = 3

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h


def confine(
    parent: int, timeout_s: float, cpu_s: int, written_bytes: int = MAX_WRITTEN_BYTES
) -> bool:
    """Takes from this process what it does not need. What a system lacks, it goes without.

    Call it before any thread is started.

    Args:
        parent: process that this one must not outlive.
        timeout_s: after so long, and a grace, it ends by itself.
        cpu_s: processor time that it may use.
        written_bytes: largest file that it may write.

    Returns:
        Whether it can reach no network.
    """
    signal.setitimer(signal.ITIMER_REAL, timeout_s + GRACE_S)
    isolated = _leave_network()
    _die_with(parent)
    _leave_terminal()
    go_first_if_memory_runs_out()
    limit(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    limit(resource.RLIMIT_FSIZE, written_bytes)
    # Linux counts threads as well; with one thread, ONNX Runtime starts none.
    limit(resource.RLIMIT_NPROC, 0)
    return isolated


def confine_memory(memory_bytes: int) -> None:
    """Lets this process take so much memory more, and no more than the machine has left."""
    taken, left = virtual_bytes(), available_bytes()
    if taken is not None:
        limit(resource.RLIMIT_AS, taken + min(memory_bytes, memory_bytes if left is None else left))


def _leave_network() -> bool:
    """Moves into a network namespace of its own, which has not even a loopback that is up.

    Source: user_namespaces(7). Root takes the namespace as it is, and keeps its right to read the
    files of others; anybody else has to become the root of a namespace of users first.
    """
    alone = call_linux("unshare", CLONE_NEWNET)
    return alone or call_linux("unshare", CLONE_NEWUSER | CLONE_NEWNET)


def _die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent ends; ends it if that has happened."""
    call_linux("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    call_linux("prctl", PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(ORPHANED)


def _leave_terminal() -> None:
    """Gives up the terminal that the node was started from, if it was: it takes typed commands."""
    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            fcntl.ioctl(terminal, termios.TIOCNOTTY)
        finally:
            os.close(terminal)


def go_first_if_memory_runs_out() -> None:
    """Lets the kernel choose this process if memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def limit(kind: int, soft: int, hard: int | None = None) -> None:
    """Limits a resource of this process, as far as the system lets it.

    Args:
        kind: of ``resource``.
        soft: the limit.
        hard: up to which it may be raised again; None for the same.
    """
    with contextlib.suppress(ValueError, OSError):
        _, ceiling = resource.getrlimit(kind)
        wanted = soft if hard is None else hard
        top = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
        resource.setrlimit(kind, (min(soft, top), top))


def call_linux(name: str, *arguments: int) -> bool:
    """Calls a function of the C library that only Linux has; returns whether it succeeded."""
    if sys.platform != "linux":
        return False
    function = getattr(ctypes.CDLL(None), name, None)
    return function is not None and function(*map(ctypes.c_ulong, arguments)) == 0
