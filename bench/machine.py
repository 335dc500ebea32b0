"""This machine: what it is, which CPU runs what, and what a process has used."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from bench.errors import BenchError

PACKAGES = ("paho-mqtt", "onnxruntime", "numpy", "msgspec")


def require_linux() -> None:
    """Looks whether CPU times and memory can be read here.

    Raises:
        BenchError: they cannot.
    """
    if not Path("/proc/self/stat").exists() or not hasattr(os, "sched_setaffinity"):
        raise BenchError("the benchmarks read /proc and pin processes to CPUs: they need Linux")


def describe(broker: str, cpus: Cpus) -> dict[str, str]:
    """Returns what the figures depend on.

    Args:
        broker: the broker's name and version.
        cpus: what may be used.
    """
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "cpu": _cpu_name(),
        "cpus": str(len(cpus.contestant | cpus.others)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "broker": broker,
        **versions,
        "load_average": f"{os.getloadavg()[0]:.2f}",
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def cpu_s(pid: int) -> float:
    """Returns the CPU time that a process has used, user and system, all threads, in s.

    Source: proc(5), ``/proc/PID/stat``, fields 14 and 15.
    """
    # The second field, the name, may hold spaces and brackets.
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """Returns the resident memory of a process, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise BenchError(f"process {pid} has no memory: it has ended")


class Cpus:
    """Which CPUs the contestants run on, and which all else.

    Every contestant gets the same one CPU, by which each runs one ONNX Runtime thread; broker and
    load generator get the others. On a machine of one CPU all share it.
    """

    def __init__(self) -> None:
        available = sorted(os.sched_getaffinity(0))
        self.contestant = {available[-1]}
        self.others = set(available[:-1]) or self.contestant

    @contextlib.contextmanager
    def running_on(self, cpus: set[int]) -> Iterator[None]:
        """Pins this process to CPUs; the children that are started meanwhile inherit it."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)
