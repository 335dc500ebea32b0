"""When to try again to connect: exponential, capped, jittered. Pure."""

from __future__ import annotations

import random

FIRST_DELAY_S = 0.25
MAX_DELAY_S = 15.0
SLOW_DELAY_S = 60.0
STEADY_S = 10.0
PEACEFUL_S = 120.0
MAX_DOUBLINGS = 10


class Reconnects:
    """Decides when the next attempt is due.

    Only a connection that lived for a while ends a series of failures: a broker that takes us and
    throws us out at once, or another client that fights for our name, must not make us hot.

    Args:
        rng: jitter, so that a fleet does not come back as one.

    Attributes:
        due_s: when the next attempt may begin, monotonic.
        failures: attempts and short connections since the last long one.
    """

    def __init__(self, rng: random.Random) -> None:
        self.due_s = 0.0
        self.failures = 0
        self._rng = rng
        self._accepted_s: float | None = None
        self._contested = False

    def accepted(self, now_s: float) -> None:
        """A broker has accepted us."""
        self._accepted_s = now_s

    def contested(self) -> None:
        """Another client fights for our name: be slow, until a connection outlives its attempts."""
        self._contested = True

    def failed(self, now_s: float, *, slow: bool = False) -> None:
        """An attempt has failed, or a connection has ended.

        Args:
            now_s: monotonic.
            slow: whether only a person can mend it.
        """
        lived_s = 0.0 if self._accepted_s is None else now_s - self._accepted_s
        self._accepted_s = None
        if lived_s >= STEADY_S:
            self.failures = 0
        if lived_s >= PEACEFUL_S:
            self._contested = False
        self.failures += 1
        doublings = min(self.failures - 1, MAX_DOUBLINGS)
        ceiling_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2**doublings)
        if slow or self._contested:
            ceiling_s = SLOW_DELAY_S
        self.due_s = now_s + ceiling_s * self._rng.uniform(0.5, 1.0)

    def restarted(self, now_s: float) -> None:
        """A connection that served was ended on purpose: the next may begin at once."""
        if self._contested:
            self.failed(now_s)
            return
        self._accepted_s = None
        self.due_s = now_s

    def is_young(self, now_s: float) -> bool:
        """Whether the connection that stands has not lived for long yet."""
        return self._accepted_s is None or now_s - self._accepted_s < STEADY_S
