"""Says what is wrong once, and while it stays wrong, now and then. Pure but for the log."""

from __future__ import annotations

import logging

REPEAT_S = 60.0
MAX_KNOWN = 32


class TroubleLog:
    """Keeps a trouble that recurs every second from filling the log.

    Args:
        log: where it is said.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said_s: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def say(self, level: int, text: str, now_s: float, *, key: str = "") -> None:
        """Says a trouble that is new, or was last said more than a minute ago.

        Args:
            level: of the log.
            text: what is wrong.
            now_s: monotonic.
            key: what tells it from another trouble; by default its text.
        """
        key = key or text
        last_s = self._said_s.get(key)
        if last_s is not None and now_s - last_s < REPEAT_S:
            self._unsaid[key] = self._unsaid.get(key, 0) + 1
            return
        if len(self._said_s) >= MAX_KNOWN:
            self.clear()
        again = self._unsaid.pop(key, 0)
        self._said_s[key] = now_s
        self._log.log(level, "%s%s", text, f" ({again} times more)" if again else "")

    def clear(self) -> None:
        """All is well: what comes next is new."""
        self._said_s.clear()
        self._unsaid.clear()
