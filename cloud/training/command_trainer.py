"""Trains by a program of the user's: any program, a container, a job of a cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cloud.training.limits import follow
from shared.errors import ArtefactError

FOLDER = "{folder}"
FOLDER_VARIABLE = "ESCALON_JOB"
KEPT_VARIABLES = ("HOME", "LANG", "PATH", "TMPDIR")
GRACE_S = 5.0
ENDING = (signal.SIGTERM, signal.SIGALRM)
"""By these a training is ended: from outside, and because its time is up."""
AWAITED = (*ENDING, signal.SIGCHLD)


class _Ended(Exception):  # noqa: N818 - no error: it carries the signal to whom it concerns
    """This process was told to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_command(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Runs a program on a trainer's folder, and waits for it.

    It inherits this process's limits, output and process group. If this process is told to end, it
    passes that on, gives the program a moment, and ends by the same signal. Whoever started this
    process then kills what is left of the group; if nobody is left who could, it does so itself.

    Args:
        command: program and arguments; ``{folder}`` in them stands for the folder.
        folder: the trainer's.
        environment: its variables, beside ``KEPT_VARIABLES``.

    Raises:
        ArtefactError: it cannot be started, or ends with an error.
    """
    arguments = [each.replace(FOLDER, str(folder)) for each in command]
    try:
        code = _run(arguments, folder, variables(folder, environment, os.environ))
    except OSError as error:
        raise ArtefactError(
            f"cannot start the trainer {arguments[0]}: {error.strerror}. "
            "Fix: write its path, or a name that is in PATH, as the first item of training.command"
        ) from error
    except _Ended as ended:
        signal.signal(ended.number, signal.SIG_DFL)
        os.kill(os.getpid(), ended.number)
        raise
    if code != 0:
        how = f"with code {code}" if code > 0 else f"by signal {-code}"
        raise ArtefactError(f"the trainer {arguments[0]} ended {how}")


def variables(
    folder: Path, environment: Mapping[str, str], inherited: Mapping[str, str]
) -> dict[str, str]:
    """Returns all that a program's environment holds.

    Args:
        folder: the trainer's.
        environment: what the configuration adds.
        inherited: what this process has; a few are handed on, and no secret of the cloud's.
    """
    kept = {name: inherited[name] for name in KEPT_VARIABLES if name in inherited}
    return {**kept, FOLDER_VARIABLE: str(folder), **environment}


def _run(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    parent, launcher = os.getpid(), os.getppid()
    with _awaited():
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            preexec_fn=lambda: _begin(parent),  # noqa: PLW1509 - this process has one thread
        )
        while (code := process.poll()) is None:
            number = signal.sigwait(AWAITED)
            if number in ENDING:
                _end(process, launcher)
                raise _Ended(number)
    return code


def _begin(parent: int) -> None:
    """Readies the program's process: it inherits which signals are held back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, AWAITED)
    follow(parent)


def _end(process: subprocess.Popen[bytes], launcher: int) -> None:
    """Ends the program and what it has started: asks, waits a moment, and then kills."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    owns_group = os.getpgrp() == os.getpid()
    if owns_group:
        os.killpg(0, signal.SIGTERM)
    else:  # the group is not ours to end
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    process.kill()
    if owns_group and os.getppid() != launcher:
        # Whatever the program has started and is deaf; and this process, which is at its end.
        os.killpg(0, signal.SIGKILL)


@contextlib.contextmanager
def _awaited() -> Iterator[None]:
    """Holds back the signals that are waited for: by default they would end this process alone.

    A handler that raises is no way: Python loses the exception where it falls into a finalizer.
    """
    # What is ignored, as a child's end is by default, need not be kept for who waits for it.
    handler = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGCHLD, handler)
