"""What follows when a worker's process has ended. Pure: time and randomness come in."""

from __future__ import annotations

import random
from enum import Enum, auto

from shared.workers.worker import Worker

FIRST_DELAY_S = 0.1  # its samples wait in its session meanwhile
MAX_DELAY_S = 30.0
STEADY_S = 60.0
SAID_ERROR = 1  # exit code of a process that has said what is wrong


class Verdict(Enum):
    """What to do about a process that has ended."""

    START_AGAIN = auto()
    DONE = auto()
    GIVE_UP = auto()


class Restarts:
    """Judges the ends of one worker's processes.

    A process that ends is started again, whatever its end. The delay doubles from one short life to
    the next, up to a cap, and is jittered by half, so that workers do not come back as one. There
    are two exceptions: a worker that leaves and has done so is done; and if a worker's very first
    process soon ends with an error that it has said, the node cannot start, as it could not without
    workers.

    Args:
        worker: the worker.
        rng: jitter.
    """

    def __init__(self, worker: Worker, rng: random.Random) -> None:
        self._worker = worker
        self._rng = rng
        self._lives = 0
        self._short_lives = 0

    def ended(self, code: int, lived_s: float) -> Verdict:
        """Judges an end.

        Args:
            code: the exit code; that of a process that a signal ended is negative.
            lived_s: how long it lived.
        """
        self._lives += 1
        is_short = lived_s < STEADY_S
        self._short_lives = self._short_lives + 1 if is_short else 0
        if self._worker.leaves:
            return Verdict.DONE if code == 0 else Verdict.START_AGAIN
        if code == SAID_ERROR and self._lives == 1 and is_short:
            return Verdict.GIVE_UP
        return Verdict.START_AGAIN

    def delay_s(self) -> float:
        """Returns how long to wait before the next start."""
        doublings = min(max(0, self._short_lives - 1), 16)
        ceiling: float = min(MAX_DELAY_S, FIRST_DELAY_S * 2**doublings)
        return ceiling * self._rng.uniform(0.5, 1.0)
