"""What a link did not use: counted, said now and then, and shown to whoever answers for it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

from shared.mqtt.packet_stream import Skipped
from shared.mqtt.trouble_log import TroubleLog

MAX_SHOWN = 256


class LinkDrops:
    """The messages that a link did not use.

    They are somebody else's fault and may be many: the log has one line a minute for each reason.

    Args:
        url: the broker.
        log: where it is said.
    """

    def __init__(self, url: str, log: logging.Logger) -> None:
        self._url = url
        self._log = log
        self._troubles = TroubleLog(log)
        self._counts: dict[str, int] = {}
        self._skipped: deque[Skipped] = deque(maxlen=MAX_SHOWN)
        self._unsaid: dict[str, str] = {}

    def skip(self, skipped: Skipped) -> None:
        """Notes a message that came and cannot be handed on."""
        self._count(skipped.reason)
        self._skipped.append(skipped)
        self._unsaid[skipped.reason] = (
            f"dropped messages: {skipped.reason}, such as {skipped.size} bytes on {skipped.topic}"
        )

    def refuse(self, codes: Iterable[int]) -> None:
        """Notes messages of ours that the broker refused, by their reason codes."""
        for code in codes:
            self._count("refused")
            self._unsaid[f"refused {code}"] = (
                f"{self._url} refuses messages: reason code {code:#04x}"
            )

    def give_up(self, size: int) -> None:
        """Notes a message of ours that a broker ends every connection for.

        Args:
            size: of the packet, in bytes.
        """
        self._count("refused")
        self._log.error(
            "gave up a message of %d bytes: %s ends every connection that it is sent on. Fix: let "
            "the broker take packets of that size, and this client publish to its topics",
            size,
            self._url,
        )

    def take(self) -> dict[str, int]:
        """Returns how many there were since the last time, by reason."""
        counts, self._counts = self._counts, {}
        return counts

    def take_skipped(self) -> list[Skipped]:
        """Returns the latest that came and could not be handed on, since the last time."""
        skipped = list(self._skipped)
        self._skipped.clear()
        return skipped

    def say(self, now_s: float) -> None:
        """Says what is new, or was last said more than a minute ago.

        Args:
            now_s: monotonic.
        """
        unsaid, self._unsaid = self._unsaid, {}
        for reason, text in unsaid.items():
            self._troubles.say(logging.WARNING, text, now_s, key=reason)

    def _count(self, reason: str) -> None:
        self._counts[reason] = self._counts.get(reason, 0) + 1
