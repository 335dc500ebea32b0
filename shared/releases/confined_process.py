"""The parent's side of a confined child: it starts it, waits, and ends all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import shared
from shared.durable import disk_trouble
from shared.errors import SmokeError, StorageError

MAX_SAID_BYTES = 500
MAX_RESULT_BYTES = 16 * 2**10
KILL_S = 5.0
NICE = 10  # leaves the node most of a busy core; at 19 a lone busy core would not let it finish
KEPT_VARIABLES = ("HOME", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONUSERBASE")
"""By which Python and the libraries under it are found; no other variable reaches the child."""


@dataclass(frozen=True)
class ProcessLimits:
    """What a child may take.

    Attributes:
        timeout_s: by the clock, from its start.
        cpu_s: processor time, at least 1.
        memory_bytes: of address space, beside what the bare child has; what the machine has left
            is the limit where that is less.
    """

    timeout_s: float = 120.0
    cpu_s: int = 60
    memory_bytes: int = 4 * 2**30


class ConfinedProcess:
    """A child process that runs a model nobody vouches for. It ends with its starter's thread.

    Args:
        module: the child's; it is given the parent's process id, time-out in s, processor time in
            s, memory in bytes, the file of its job, and ``arguments``, and confines itself
            (``confinement.py``).
        job: what that file holds.
        folder: for the child's input and output.
        limits: what it may take.
        purpose: what it is for, in the words of an error.
        arguments: more of the child's.
    """

    def __init__(
        self,
        module: str,
        job: bytes,
        folder: Path,
        limits: ProcessLimits,
        purpose: str,
        *,
        arguments: Sequence[str] = (),
    ) -> None:
        self._module = module
        self._arguments = tuple(arguments)
        self._job = job
        self._limits = limits
        self._folder = folder
        self._purpose = purpose
        self._input = folder / "job.msgpack"
        self._output = folder / "result.json"
        self._errors = folder / "errors.txt"
        self._child: subprocess.Popen[bytes] | None = None
        self._ends_s = 0.0

    def start(self, now_s: float) -> None:
        """Starts the child.

        Raises:
            StorageError: its input cannot be written, or the child not be started.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._input.write_bytes(self._job)
            self._child = self._launched()
        except OSError as error:
            raise StorageError(f"cannot start {self._purpose}: {error}") from error
        self._ends_s = now_s + self._limits.timeout_s

    def _launched(self) -> subprocess.Popen[bytes]:
        limits = (self._limits.timeout_s, self._limits.cpu_s, self._limits.memory_bytes)
        # -P: without the folder that the node was started in, where anybody's modules may lie.
        command = [sys.executable, "-P", "-m", self._module]
        given = (os.getpid(), *limits, self._input.absolute(), *self._arguments)
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            child = subprocess.Popen(
                [*command, *map(str, given)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=self._folder,
                env=_environment(),
                # No session of its own: Linux shares a core out among sessions first (sched(7), on
                # autogroups), and a nice value would count for nothing beside the node.
                process_group=0,
            )
        _let_the_node_go_first(child.pid)
        return child

    def poll(self, now_s: float) -> str | None:
        """Returns None while the child runs, then why it failed; nothing if it ended well.

        Raises:
            StorageError: the disk had no room for the result.
        """
        child = self._child
        if child is None:
            raise SmokeError("the trial was not started")
        if not has_ended(child):
            if now_s < self._ends_s:
                return None
            self.stop()
            return f"the model did not answer within {self._limits.timeout_s:g} s"
        self.stop()
        return self._failure(child.returncode)

    def output(self, size: int = MAX_RESULT_BYTES) -> bytes:
        """Returns the last so many bytes of what the child has printed so far."""
        return _end_of(self._output, size)

    def stop(self) -> None:
        """Ends the child and whatever it has started."""
        child = self._child
        if child is None or child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(KILL_S)

    def _failure(self, code: int) -> str:
        if code < 0:
            return self._ending(-code)
        self._require_room(code)
        if code == 0:
            return ""
        said = _end_of(self._errors, MAX_SAID_BYTES).decode(errors="replace").strip()
        return said or f"the child ended with code {code}"

    def _require_room(self, code: int) -> None:
        """Sees to it that a disk without room speaks against no model: its result may be lost.

        Raises:
            StorageError: the disk does not take as much as a result may have.
        """
        if code == 0 and _end_of(self._output, 1):
            return
        room = self._folder / "room"
        try:
            room.write_bytes(bytes(MAX_RESULT_BYTES))
        except OSError as error:
            raise disk_trouble("write", self._output, error) from error
        finally:
            with contextlib.suppress(OSError):
                room.unlink()

    def _ending(self, number: int) -> str:
        match number:
            case signal.SIGXCPU:
                return f"the model took more than {self._limits.cpu_s} s of processor time"
            case signal.SIGALRM:
                return f"the model did not answer within {self._limits.timeout_s:g} s"
            case signal.SIGKILL:
                return "the process that tried the model was killed (signal 9): for want of memory?"
        return f"the model crashed the process that tried it (signal {number})"


def _let_the_node_go_first(pid: int) -> None:
    """Steps a child back from its first moment on: by itself it could only once it has started."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + NICE)


def has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether a child has ended. It stays a zombie, so that its number is nobody else's yet."""
    if not hasattr(os, "waitid"):
        return child.poll() is not None
    try:
        return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _end_of(path: Path, size: int) -> bytes:
    """Returns the last so many bytes of a file; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read(size)
    except OSError:
        return b""


def _environment() -> dict[str, str]:
    """Returns the child's variables: it finds the very code that runs here, with one thread."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(Path(shared.__file__).resolve().parents[1]), *filter(os.path.isabs, given)]
    return kept | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",  # it would start a thread, and wants the network
    }
