"""Which entries of a spool are on their way to the cloud. The time comes in."""

from __future__ import annotations

from collections.abc import Iterable

from shared.spool import Entry, Spool

SIZE = 8
REPEATS = SIZE // 2
"""Of the window, what was sent before takes at most so much: entries that the cloud can never read
do not hold up those behind them."""


class Window:
    """Lets a bounded number of entries be under way, each at least once and again until confirmed.

    What is new goes first, oldest first. What was sent and not confirmed for ``retry_s`` goes round
    again beside it.

    Args:
        spool: where they are.
        retry_s: how long a confirmation may take.
    """

    def __init__(self, spool: Spool, retry_s: float) -> None:
        self._spool = spool
        self._retry_s = retry_s
        self._sent: dict[str, tuple[float, bool]] = {}
        self._newest = 0
        self._round = 0
        self._some_lapsed = False

    def due(self, now_s: float) -> list[Entry]:
        """Returns the entries to send now.

        Raises:
            StorageError: the spool cannot be read.
        """
        self._let_lapse(now_s)
        room = SIZE - len(self._sent)
        if room <= 0:
            return []
        fresh = self._spool.after(self._newest, room)
        repeats = sum(is_repeat for _, is_repeat in self._sent.values())
        return fresh + self._lapsed(min(room - len(fresh), REPEATS - repeats))

    def sent(self, entry: Entry, now_s: float) -> None:
        """Notes that an entry is under way."""
        is_repeat = entry.number <= self._newest
        self._sent[entry.key] = (now_s, is_repeat)
        if is_repeat:
            self._round = entry.number
        else:
            self._newest = entry.number

    def confirmed(self, keys: Iterable[str]) -> None:
        """Notes that entries are gone."""
        for key in keys:
            self._sent.pop(key, None)

    def restart(self) -> None:
        """Forgets what is under way: it was lost with a connection."""
        self._sent.clear()
        self._newest = self._round = 0
        self._some_lapsed = False

    def due_s(self) -> float | None:
        """Returns when the next confirmation is overdue, monotonic; None if none is awaited."""
        if not self._sent:
            return None
        return min(sent_s for sent_s, _ in self._sent.values()) + self._retry_s

    def _let_lapse(self, now_s: float) -> None:
        lapsed = [key for key, (sent_s, _) in self._sent.items() if now_s >= sent_s + self._retry_s]
        for key in lapsed:
            del self._sent[key]
        self._some_lapsed |= bool(lapsed)

    def _lapsed(self, count: int) -> list[Entry]:
        """Returns entries that were sent before and are not under way, in their rounds."""
        if count <= 0 or not self._some_lapsed:
            return []
        for place in (self._round, 0):
            self._round = place
            found = [
                entry
                for entry in self._spool.after(place, SIZE + count)
                if entry.number <= self._newest and entry.key not in self._sent
            ]
            if found:
                return found[:count]
        self._some_lapsed = False
        return []
