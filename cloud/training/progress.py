"""How far a training is: lines of JSON that a trainer prints, and what is shown of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Protocol

import msgspec

from shared.messages import UNREADABLE

MAX_LINE_BYTES = 4096
MOST_EPOCHS = 10**9
SAID_EVERY_S = 0.5


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a training is.

    Attributes:
        stage: what is being done, for example ``tier1``; a trainer of a user's may leave it out.
        epoch: passes that are done.
        epochs: passes that are planned.
        loss: on the tuning samples.
    """

    stage: Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[\w .-]*$")] = ""
    epoch: Annotated[int, msgspec.Meta(ge=0, le=MOST_EPOCHS)] = 0
    epochs: Annotated[int, msgspec.Meta(ge=0, le=MOST_EPOCHS)] = 0
    loss: float | None = None

    @property
    def share(self) -> float:
        """Share of the passes that are done, 0 to 1."""
        return min(1.0, max(0.0, self.epoch / self.epochs)) if self.epochs > 0 else 0.0

    def __str__(self) -> str:
        words = [self.stage] if self.stage else []
        if self.epochs > 0:
            words.append(f"epoch {self.epoch}/{self.epochs}")
        return ", ".join(words)


class Say(Protocol):
    """Tells how far it is."""

    def __call__(self, epoch: int, epochs: int, loss: float | None = None) -> None:
        """A pass is done.

        Args:
            epoch: how many are.
            epochs: how many are planned.
            loss: on the tuning samples.
        """


class ProgressLines:
    """Writes lines of progress, and not more often than anybody reads them.

    Args:
        write: takes text.
        clock: monotonic, in s.
    """

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float]) -> None:
        self._write = write
        self._clock = clock
        self._stage = ""
        self._next_s = 0.0

    def stage(self, name: str) -> None:
        """Something else is being done now."""
        self._stage = name
        self._line(Progress(name))

    def __call__(self, epoch: int, epochs: int, loss: float | None = None) -> None:
        """See ``Say``."""
        now_s = self._clock()
        if now_s < self._next_s and epoch < epochs:
            return
        self._next_s = now_s + SAID_EVERY_S
        self._line(Progress(self._stage, epoch, epochs, loss))

    def _line(self, progress: Progress) -> None:
        self._write(msgspec.json.encode(progress).decode() + "\n")


class Spoken:
    """What a child has printed: the newest progress, and the last of everything else.

    Args:
        most_bytes: of what else it printed, the last so many are kept.
    """

    def __init__(self, most_bytes: int) -> None:
        self.progress = Progress()
        self._most = most_bytes
        self._tail = bytearray()
        self._line = bytearray()

    @property
    def tail(self) -> bytes:
        """The last of what was no progress."""
        return bytes(self._tail + self._line)[-self._most :]

    def add(self, data: bytes) -> bool:
        """Takes what was printed, wherever it is cut; returns whether there is news of progress."""
        before = self.progress
        *whole, rest = (bytes(self._line) + data).split(b"\n")
        for line in whole:
            self._take(line)
        self._line = bytearray(rest)
        if len(self._line) > MAX_LINE_BYTES:  # no line of progress
            self._keep(bytes(self._line))
            self._line.clear()
        return self.progress != before

    def _take(self, line: bytes) -> None:
        found = _progress_in(line)
        if found is None:
            self._keep(line + b"\n")
        elif found.stage:
            self.progress = found
        else:
            self.progress = msgspec.structs.replace(found, stage=self.progress.stage)

    def _keep(self, text: bytes) -> None:
        self._tail += text
        del self._tail[: -self._most]


def _progress_in(line: bytes) -> Progress | None:
    if not line.startswith(b"{") or len(line) > MAX_LINE_BYTES:
        return None
    try:
        found = msgspec.json.decode(line, type=Progress)
    except UNREADABLE:
        return None
    return found if found.stage or found.epochs > 0 else None
