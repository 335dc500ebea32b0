"""Says what is wrong with a channel once, not at each attempt."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class Complaints:
    """Says what is wrong, until something else is.

    Args:
        channel: the channel, which each complaint begins with.
    """

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._said = ""

    def say(self, text: str, level: int = logging.ERROR) -> None:
        """Says a trouble, unless it is the one that was said last.

        Args:
            text: what is wrong.
            level: of the log.
        """
        if text != self._said:
            self._said = text
            log.log(level, "%s: %s", self._channel, text)
