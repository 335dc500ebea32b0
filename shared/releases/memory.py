"""How much memory a process takes, and how much the machine or the container has left."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
KIB = 1024


def reset_peak() -> None:
    """Lets ``peak_bytes`` begin anew from what this process takes now, where the system can.

    Source: proc(5), ``/proc/pid/clear_refs``.
    """
    with contextlib.suppress(OSError):
        (PROC / "self/clear_refs").write_text("5")


def peak_bytes(proc: Path = PROC) -> int:
    """Returns the most physical memory that this process has ever taken.

    What ``getrusage`` says would not do on Linux: a child inherits its parent's peak there.
    """
    found = _figure(proc / "self/status", "VmHWM:")
    if found is not None:
        return found * KIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * KIB


def read_rss_bytes(proc: Path = PROC) -> int | None:
    """Returns the resident memory of this process; None where the system does not say.

    Source: proc_pid_statm(5): the second number is the resident set, in pages.
    """
    try:
        pages = int((proc / "self/statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def virtual_bytes(proc: Path = PROC) -> int | None:
    """Returns how much address space this process takes; None where the system does not say."""
    found = _figure(proc / "self/status", "VmSize:")
    return None if found is None else found * KIB


def available_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """Returns how much memory could still be taken; None where the system does not say.

    Sources: proc(5), ``MemAvailable``; cgroup v2, ``memory.max``: of what a container has taken,
    ``inactive_file`` is given back on demand.
    """
    kib = _figure(proc / "meminfo", "MemAvailable:")
    found = [] if kib is None else [kib * KIB]
    most, taken = _figure(cgroup / "memory.max", ""), _figure(cgroup / "memory.current", "")
    if most is not None and taken is not None:
        cached = _figure(cgroup / "memory.stat", "inactive_file ") or 0
        found.append(max(0, most - taken + cached))
    return min(found, default=None)


def _figure(path: Path, name: str) -> int | None:
    """Returns the first number behind a name at the beginning of a line, None without one."""
    for line in _lines(path):
        words = line.removeprefix(name).split()
        if line.startswith(name) and words and words[0].isdigit():
            return int(words[0])
    return None


def _lines(path: Path) -> Iterator[str]:
    with contextlib.suppress(OSError), path.open() as file:
        yield from file
