"""``escalon release status --watch``: looks again and again, until all rollouts have ended."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import msgspec

from escalon.release.status import EXIT_UNDER_WAY, ChannelStatus, exit_code, nodes_in_words

LOOK_S = 1.0

Look = Callable[[], Sequence[ChannelStatus]]


def watch(
    look: Look,
    output: TextIO,
    *,
    as_json: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Shows how rollouts go on: a live table on a terminal, else what has changed.

    Args:
        look: returns how all channels stand.
        output: where to show it.
        as_json: whether each change is a line of JSON.
        pause: waits between two looks, in seconds.

    Returns:
        The exit code of the end.
    """
    live = not as_json and output.isatty() and importlib.util.find_spec("rich") is not None
    screen = _Live(output) if live else _Lines(output, as_json)
    with screen:
        while True:
            found = look()
            screen.show(found)
            goes_on = any(exit_code([each]) == EXIT_UNDER_WAY for each in found)
            # The record says that it has ended before the broker has the last manifest.
            if not goes_on and all(each.seq or not each.phase for each in found):
                return exit_code(found)
            pause(LOOK_S)


class _Lines:
    """Lines, for pipes and scripts: the summaries that changed, or all as JSON."""

    def __init__(self, output: TextIO, as_json: bool) -> None:
        self._output = output
        self._as_json = as_json
        self._said: dict[str, str] = {}
        self._last = b""

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, found: Sequence[ChannelStatus]) -> None:
        """Writes what has changed."""
        if self._as_json:
            data = msgspec.json.encode(found)
            if data != self._last:
                self._last = data
                self._output.write(data.decode() + "\n")
        else:
            for each in found:
                if self._said.get(each.channel) != each.summary:
                    self._said[each.channel] = each.summary
                    self._output.write(each.summary + "\n")
        self._output.flush()


class _Live:
    """The whole table, drawn anew in its place."""

    def __init__(self, output: TextIO) -> None:
        from rich.console import Console  # noqa: PLC0415 - an extra
        from rich.live import Live  # noqa: PLC0415

        self._live: Any = Live(console=Console(file=output), auto_refresh=False)

    def __enter__(self) -> _Live:
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)

    def show(self, found: Sequence[ChannelStatus]) -> None:
        """Draws."""
        from rich.console import Group  # noqa: PLC0415 - an extra
        from rich.text import Text  # noqa: PLC0415

        parts = []
        for each in found:
            rows = Text(nodes_in_words(each), no_wrap=True, overflow="ellipsis")
            parts += [Text(each.summary, style="bold"), rows, Text()]
        self._live.update(Group(*parts), refresh=True)
