"""The parent's side: it has a list of things done by confined children, whatever some of them do.

A thing that ends its child is written off, and the rest is done by another one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from cloud.optimize.case import encode
from shared.errors import ArtefactError, EscalonError
from shared.messages import UNREADABLE
from shared.releases.confined_process import ConfinedProcess, ProcessLimits

MAX_OUTPUT_BYTES = 2**20
POLL_S = 0.01
GRACE_S = 3.0
"""A child ends its work by itself when its time is up; so much later it is ended."""

Module = Literal["making", "measuring"]


class Step(Protocol):
    """What a child prints of a thing: that it has begun, and what came of it."""

    name: str

    @property
    def done(self) -> bool:
        """Whether it says what came of the thing."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """What a child prints last, where it does not go on.

    Attributes:
        reason: why.
    """

    reason: str


class ChildError(EscalonError):
    """A child that ended otherwise than well."""


@dataclass(frozen=True)
class Children:
    """Has the things of a job done.

    Attributes:
        module: of the child: what does them.
        kind: of what it prints, with a tag: steps, and what has no ``name``.
        job: returns the job for the things that are left, and the seconds that are left for them.
        folder: for the children's input and output.
        limits: what a child may take; its time-out and processor time are those that are left.
        ends_s: by when all should be done, of the monotonic clock.
    """

    module: Module
    kind: Any
    job: Callable[[Sequence[str], float], msgspec.Struct]
    folder: Path
    limits: ProcessLimits
    ends_s: float

    def steps(self, todo: Sequence[str]) -> Iterator[Any]:
        """Yields what the children print; for a thing that ended its child, its name and why.

        Args:
            todo: names of what is to be done, in order.

        Raises:
            ArtefactError: a child ended before it began with anything.
            StorageError: the disk is full, or no child can be started.
        """
        left, number = list(todo), 0
        while left and (seconds := self.ends_s - time.monotonic()) > 0:
            number, before, begun = number + 1, len(left), None
            try:
                for step in self._run(number, tuple(left), seconds):
                    name = getattr(step, "name", None)
                    if name is not None and name not in left:
                        raise ChildError(f"its child speaks of {name!r}, which nobody asked for")
                    yield step
                    begun = None if name is None or step.done else name
                    left = left[left.index(name) + 1 :] if name and step.done else left
            except ChildError as error:
                if begun is None and len(left) == before:
                    late = time.monotonic() >= self.ends_s
                    remedy = ". Fix: allow more seconds" if late else ""
                    raise ArtefactError(f"{error}{remedy}") from error
                if begun is not None:
                    yield begun, str(error)
                    left = left[left.index(begun) + 1 :]
            else:
                return

    def _run(self, number: int, left: Sequence[str], seconds: float) -> Iterator[Any]:
        timeout_s = seconds + GRACE_S
        process = ConfinedProcess(
            "cloud.optimize.child",
            encode(self.job(left, seconds)),
            self.folder / f"{self.module}-{number}",
            replace(self.limits, timeout_s=timeout_s, cpu_s=math.ceil(timeout_s)),
            "the optimisation",
            arguments=[self.module],
        )
        process.start(time.monotonic())
        try:
            yield from self._read(process)
        finally:
            process.stop()

    def _read(self, process: ConfinedProcess) -> Iterator[Any]:
        seen, failure = 0, None
        while failure is None:
            failure = process.poll(time.monotonic())
            output = process.output(MAX_OUTPUT_BYTES)
            if len(output) == MAX_OUTPUT_BYTES:
                raise ChildError("its child says more than it may")
            lines = output.split(b"\n")[:-1]
            for line in lines[seen:]:
                yield self._decoded(line)
            seen = len(lines)
            if failure is None:
                time.sleep(POLL_S)
        if failure:
            raise ChildError(failure)

    def _decoded(self, line: bytes) -> Any:
        try:
            step = msgspec.json.decode(line, type=self.kind | Refused)
        except UNREADABLE as error:
            raise ChildError(f"its child says what nobody understands: {line[:80]!r}") from error
        if isinstance(step, Refused):
            raise ChildError(step.reason)
        return step
