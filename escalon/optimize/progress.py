"""One line on the screen that says how far a long work is; lines, where it is no screen."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Stream(Protocol):
    """Where lines go."""

    def isatty(self) -> bool:
        """Whether it is a screen."""

    def write(self, text: str, /) -> object:
        """Takes text."""

    def flush(self) -> object:
        """Shows it."""


CLEAR = "\r\x1b[K"


class Progress:
    """Says how far a work is.

    Args:
        stream: where it goes.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._screen = stream.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._screen:
            self._stream.write(CLEAR)
            self._stream.flush()

    def say(self, line: str) -> None:
        """Shows a line, in the place of the last one on a screen."""
        self._stream.write(f"{CLEAR}{line}" if self._screen else f"{line}\n")
        self._stream.flush()
