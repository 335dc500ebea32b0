"""Which chunks to ask for, and when again. Pure."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable

WINDOW = 16
ASK_AGAIN_S = 5.0
MAX_ASK_AGAIN_S = 60.0


class ChunkWindow:
    """Asks for no more than a window at a time; for what does not come, again, ever more rarely.

    The time-out counts from the last chunk that came, so a slow link is not asked for the same
    bytes twice. What timed out goes to the end: chunks that a broker has lost do not keep the
    others from coming. The time-out doubles, and is short again once a whole window has come
    without one. A site's nodes ask at different times, by a jitter of a third of it.

    Args:
        missing: indices, in the order to ask for them.
        rng: jitter.
        batch: asks for no fewer at once, unless fewer are left.
    """

    def __init__(self, missing: Iterable[int], rng: random.Random, batch: int = 1) -> None:
        self._waiting = deque(missing)
        self._asked: dict[int, None] = {}
        self._rng = rng
        self._batch = batch
        self._ask_again_s = ASK_AGAIN_S
        self._came = 0
        self._due_s = 0.0

    @property
    def empty(self) -> bool:
        """Whether all has come."""
        return not self._waiting and not self._asked

    @property
    def asked(self) -> tuple[int, ...]:
        """What has been asked for and has not come."""
        return tuple(self._asked)

    def __contains__(self, index: int) -> bool:
        return index in self._asked or index in self._waiting

    def add(self, index: int) -> None:
        """Takes one more."""
        self._waiting.append(index)

    def ask(self, now_s: float) -> tuple[int, ...]:
        """Returns what to ask for now."""
        room = WINDOW - len(self._asked)
        if not self._waiting or room < min(self._batch, len(self._waiting)):
            return ()
        asked = tuple(self._waiting.popleft() for _ in range(min(room, len(self._waiting))))
        self._asked.update(dict.fromkeys(asked))
        self._set_due(now_s)
        return asked

    def came(self, index: int, now_s: float) -> bool:
        """Notes that a chunk has come; returns whether it was missing."""
        if index in self._asked:
            del self._asked[index]
        elif index in self._waiting:
            self._waiting.remove(index)
        else:
            return False
        self._came += 1
        if self._came >= WINDOW:
            self._ask_again_s = ASK_AGAIN_S
        self._set_due(now_s)
        return True

    def time_out(self, now_s: float) -> tuple[int, ...]:
        """Returns what did not come in time; it is asked for again in its turn."""
        if not self._asked or now_s < self._due_s:
            return ()
        self._ask_again_s, self._came = min(2 * self._ask_again_s, MAX_ASK_AGAIN_S), 0
        late = tuple(self._asked)
        self._asked.clear()
        self._waiting.extend(late)
        return late

    def withdraw(self) -> None:
        """Takes back what was asked for: the question is lost, or was not sent."""
        self._waiting.extendleft(reversed(self._asked))
        self._asked.clear()

    def begin_waiting(self, now_s: float) -> None:
        """Counts the time-out from now: until now nothing could come."""
        self._set_due(now_s)

    def _set_due(self, now_s: float) -> None:
        self._due_s = now_s + self._ask_again_s * self._rng.uniform(0.6, 1.0)
