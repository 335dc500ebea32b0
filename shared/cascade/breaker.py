"""Leaves a tier alone that does not answer, and finds out when it does again. Pure.

The circuit breaker of Nygard, Release It! (2nd ed., 2018, section 5.2), as a table. Time and
randomness come in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from types import MappingProxyType

from shared.cascade.config import BreakerConfig

MAX_DOUBLINGS = 32


class State(StrEnum):
    """Whether the next tier may be asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Event(StrEnum):
    """What may happen to a breaker."""

    TRIP = "trip"
    RETRY = "retry"
    ANSWER = "answer"
    MISS = "miss"


TRANSITIONS = MappingProxyType(
    {
        (State.CLOSED, Event.TRIP): State.OPEN,
        (State.OPEN, Event.RETRY): State.HALF_OPEN,
        (State.HALF_OPEN, Event.ANSWER): State.CLOSED,
        (State.HALF_OPEN, Event.MISS): State.OPEN,
    }
)


class Breaker:
    """Opens after misses in a row, then lets one probe through at a time.

    What was asked before it opened tells nothing more: neither a miss of it nor an answer, be it
    in time or late, moves an open breaker. Only the probe does.

    Args:
        config: when it opens and how long it waits.
        draw: returns a random number, uniform in [0, 1), for the jitter.

    Attributes:
        state: where it is.
    """

    def __init__(self, config: BreakerConfig, draw: Callable[[], float]) -> None:
        self.state = State.CLOSED
        self._config = config
        self._draw = draw
        self._misses = 0
        self._settled_s = -math.inf
        self._failed_probes = 0
        self._retry_s = 0.0
        self._probe: int | None = None

    @property
    def probing(self) -> bool:
        """Whether a probe is under way."""
        return self._probe is not None

    def poll(self, now_s: float) -> State:
        """Returns the state, which is half open once the delay is over."""
        if self.state is State.OPEN and now_s >= self._retry_s:
            self._process(Event.RETRY)
        return self.state

    def asked(self, correlation: int) -> None:
        """Notes a question: the first one of a half-open breaker is the probe."""
        if self.state is State.HALF_OPEN and self._probe is None:
            self._probe = correlation

    def answered(self, correlation: int, now_s: float) -> None:
        """Notes an answer in time."""
        if self.state is State.CLOSED:
            self._misses = 0
        elif correlation == self._probe:
            self._probe = None
            self._misses = self._failed_probes = 0
            self._settled_s = now_s
            self._process(Event.ANSWER)

    def missed(self, correlation: int, asked_s: float, now_s: float) -> None:
        """Notes that a question was not answered in time.

        What was asked at one time is one miss: a lost message may hold many questions.

        Args:
            correlation: the question's.
            asked_s: when it was asked, monotonic.
            now_s: monotonic.
        """
        if self.state is State.CLOSED:
            if asked_s > self._settled_s:
                self._settled_s = asked_s
                self._misses += 1
            if self._misses >= self._config.failures:
                self._open(Event.TRIP, now_s)
        elif correlation == self._probe:
            self._probe = None
            self._failed_probes += 1
            self._open(Event.MISS, now_s)

    def withdrawn(self, correlation: int) -> None:
        """Notes that a question was never sent: the next one is the probe."""
        if correlation == self._probe:
            self._probe = None

    def _open(self, event: Event, now_s: float) -> None:
        self._retry_s = now_s + self._delay_s()
        self._process(event)

    def _process(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state, event]

    def _delay_s(self) -> float:
        """Exponential, capped, jittered by half, so that a fleet does not ask as one."""
        doubled_s = self._config.retry_s * 2.0 ** min(self._failed_probes, MAX_DOUBLINGS)
        return min(doubled_s, self._config.max_retry_s) * (0.5 + self._draw() / 2)
