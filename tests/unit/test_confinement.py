"""What a child has given up, it cannot take back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from shared.releases.confinement import MAX_OPEN_FILES, MAX_WRITTEN_BYTES, ORPHANED

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what Linux alone offers")

PROGRAM = """
import json, os, resource, socket, sys
from shared.releases import confinement
from shared.releases.confinement import confine, confine_memory
if sys.argv[4:]:
    confinement.CLONE_NEWNET = 1  # no such namespace
parent, port, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
found = {"isolated": confine(parent, 100.0, 50)}
try:
    socket.create_connection(("127.0.0.1", port)).close()
    found["reached"] = True
except OSError:
    found["reached"] = False
confine_memory(2**24)
try:
    bytearray(2**27)
    found["allocated"] = True
except MemoryError:
    found["allocated"] = False
try:
    with open(file, "wb") as large:
        large.write(bytes(2**21))
        found["written"] = True
except OSError:
    found["written"] = False
limits = ("CORE", "NOFILE", "FSIZE", "NPROC", "CPU")
found["limits"] = {each: resource.getrlimit(getattr(resource, f"RLIMIT_{each}")) for each in limits}
found["oom"] = int(open("/proc/self/oom_score_adj").read())
print(json.dumps(found))
"""

ON_A_TERMINAL = """
import os, pty, subprocess, sys
pid, terminal = pty.fork()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
# A shell, as it were, on a terminal of its own; under it the child.
arguments = [sys.executable, "-c", sys.argv[1], str(os.getpid()), sys.argv[2]]
os._exit(subprocess.run(arguments, process_group=0, stderr=subprocess.DEVNULL).returncode)
"""

WITH_A_TERMINAL = """
import sys
from shared.releases.confinement import confine
def has_terminal():
    try:
        open("/dev/tty").close()
    except OSError:
        return False
    return True
had = has_terminal()
confine(int(sys.argv[1]), 100.0, 50)
open(sys.argv[2], "w").write(f"{had} {has_terminal()}")
"""


class Found(msgspec.Struct):
    isolated: bool
    reached: bool
    allocated: bool
    written: bool
    limits: dict[str, tuple[int, int]]
    oom: int


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def confined(
    listener: socket.socket, folder: Path, parent: int, *options: str
) -> subprocess.CompletedProcess[str]:
    port = str(listener.getsockname()[1])
    command = [sys.executable, "-c", PROGRAM, str(parent), port, str(folder / "large"), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_confined_process_has_lost_what_it_does_not_need(
    listener: socket.socket, tmp_path: Path
) -> None:
    told = confined(listener, tmp_path, os.getpid())
    assert told.returncode == 0, told.stderr
    found = msgspec.json.decode(told.stdout, type=Found)
    assert found.reached is not found.isolated
    assert not found.allocated
    assert not found.written
    assert (tmp_path / "large").stat().st_size <= MAX_WRITTEN_BYTES
    assert found.limits == {
        "CORE": (0, 0),
        "NOFILE": (MAX_OPEN_FILES, MAX_OPEN_FILES),
        "FSIZE": (MAX_WRITTEN_BYTES, MAX_WRITTEN_BYTES),
        "NPROC": (0, 0),
        "CPU": (50, 51),
    }
    assert found.oom == 1000


def test_a_process_whose_parent_is_gone_ends_at_once(
    listener: socket.socket, tmp_path: Path
) -> None:
    told = confined(listener, tmp_path, os.getpid() + 1)
    assert (told.returncode, told.stdout) == (ORPHANED, "")


def test_a_confined_process_cannot_type_on_the_nodes_terminal(tmp_path: Path) -> None:
    told = tmp_path / "told"
    command = [sys.executable, "-c", ON_A_TERMINAL, WITH_A_TERMINAL, str(told)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert told.read_text() == "True False"


def test_where_the_kernel_gives_no_namespace_the_process_says_so(
    listener: socket.socket, tmp_path: Path
) -> None:
    told = confined(listener, tmp_path, os.getpid(), "without-a-namespace")
    found = msgspec.json.decode(told.stdout, type=Found)
    assert (found.isolated, found.reached) == (False, True)
