"""What a training may take: memory, time, and none of the processor while others want it.

It stands here without numpy, so that the limits hold before anything is imported.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from dataclasses import dataclass

from shared.releases.confinement import call_linux, go_first_if_memory_runs_out, limit

NICE = 5  # whoever answers samples on the same machine goes first
ORPHANED = 3
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Limits:
    """What a training may take.

    Attributes:
        memory_bytes: of each of its processes.
        timeout_s: by the clock.
    """

    memory_bytes: int
    timeout_s: float


def confine(parent: int, limits: Limits) -> None:
    """Holds this process to the limits. What a system lacks, it goes without.

    Args:
        parent: process that this one must not outlive.
        limits: what it may take.
    """
    signal.setitimer(signal.ITIMER_REAL, limits.timeout_s)
    follow(parent)
    with contextlib.suppress(OSError):
        os.nice(NICE)
    go_first_if_memory_runs_out()
    limit(resource.RLIMIT_CORE, 0)
    # Linux counts there what a process can write to. The whole address space, which is limited
    # elsewhere, has little to do with memory: some runtimes reserve a hundred times what they use.
    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    limit(kind, limits.memory_bytes)


def follow(parent: int) -> None:
    """Has the kernel end this process when its parent ends; ends it if that has happened.

    By SIGTERM, so that a process that has children of its own can end them first.
    """
    call_linux("prctl", PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(ORPHANED)
