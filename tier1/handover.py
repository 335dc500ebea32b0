"""Whose a sample is where each worker gets every one, also while their number changes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence

import msgspec

from shared.errors import StorageError
from shared.mqtt.milestone import Milestone
from shared.workers.session_record import RememberedSession, SessionRecord
from shared.workers.worker import Worker

LOOK_S = 0.25
EVERYTHING = 0
"""Stands for a number of workers where whatever comes to a worker is its own."""

log = logging.getLogger(__name__)


class Handover:
    """Knows the samples that a worker answers, and loses none from one number to another.

    With another number of workers most sensors are another worker's. Whoever has them now may have
    no session yet, or may have put away what was another's then. So a worker goes on answering what
    was its own before: until every worker is subscribed, and all that was published before that is
    answered. Meanwhile a sample may be answered by two of them.

    A worker that leaves answers what was its own, to the end.

    Args:
        worker: the worker.
        session: what it remembers of its session.
        others: what each worker of the node remembers of its own, this one included.
        milestone: comes when all that was published before it is answered.

    Attributes:
        takes_all: whether whatever comes is its own.
    """

    def __init__(
        self,
        worker: Worker,
        session: RememberedSession,
        others: Sequence[SessionRecord],
        milestone: Milestone,
    ) -> None:
        self.takes_all = False
        self._worker = worker
        self._session = session
        self._others = others
        self._milestone = milestone
        self._count = EVERYTHING
        self._filters: frozenset[str] = frozenset()
        self._owners: tuple[Worker, ...] = ()
        self._look_s: float | None = None
        self._all_there = False

    def leave(self) -> None:
        """Answers what was the worker's own; all of it, if that is not known."""
        self._own(self._session.state.counts or (EVERYTHING,))

    def begin(self, count: int, filters: Iterable[str]) -> None:
        """Begins to answer by a number of workers.

        Args:
            count: by how many the samples are split, or ``EVERYTHING``.
            filters: what each of them subscribes to for that.
        """
        self._count, self._filters = count, frozenset(filters)
        before = self._session.state.counts
        counts = (count,) if count == EVERYTHING else tuple(sorted({*before, count}))
        self._remember(counts)
        self._all_there = False
        self._look_s = -math.inf if len(counts) > 1 else None
        if self._look_s is not None:
            log.info("answering what was this worker's own before, until every worker is there")

    def takes(self, sensor: str) -> bool:
        """Whether a sensor is the worker's own, where ``takes_all`` does not say so."""
        return any(owner.takes(sensor) for owner in self._owners)

    def poll(self, now_s: float) -> None:
        """Comes to the end of what was before, when its time has come.

        Args:
            now_s: monotonic.
        """
        if self._look_s is None or now_s < self._look_s:
            return
        self._look_s = now_s + LOOK_S
        if not self._all_there:
            self._all_there = all(map(self._is_there, self._others))
            if self._all_there:
                self._milestone.begin()
        elif self._milestone.passed:
            self._look_s = None
            self._remember((self._count,))
            log.info("nothing of before is left in the session")

    def due_s(self) -> float | None:
        """Returns when ``poll`` is due, monotonic, or None while nothing is open."""
        return self._look_s

    def _is_there(self, other: SessionRecord) -> bool:
        try:
            state = other.read()
        except StorageError:
            return False
        return state.confirmed and self._filters.issubset(state.filters)

    def _remember(self, counts: tuple[int, ...]) -> None:
        self._session.remember(msgspec.structs.replace(self._session.state, counts=counts))
        self._own(counts)

    def _own(self, counts: tuple[int, ...]) -> None:
        self.takes_all = EVERYTHING in counts
        self._owners = tuple(Worker(self._worker.index, count) for count in counts if count)
