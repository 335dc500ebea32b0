"""Hard samples that could not be asked: on the disk until the next tier has them on its own."""

from __future__ import annotations

import logging
import math
import random
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.cascade.config import EscalationConfig
from shared.cascade.halves import halves
from shared.cascade.leftovers import Batch, Leftovers
from shared.errors import PayloadError, StorageError
from shared.messages import EscalatedSample, Escalation, pack, unpack
from shared.metrics import NodeMetrics
from shared.scores import Floats
from shared.spool import Entry, Spool, may_exist

COMMIT_EVERY_S = 1.0
REOPEN_S = 30.0
MAX_DOUBLINGS = 32
MAX_SENT = 64  # messages whose late confirmation is still known

log = logging.getLogger(__name__)


class Backlog:
    """Training material that goes up late, one message at a time, when nothing else does.

    It writes at most once a second and at most a message's worth, so that a tier which is away
    costs a disk little; what comes beyond that is dropped and counted. An entry leaves the disk
    when the next tier says that the records are on its own, or when a cap removes it. One that is
    not confirmed goes behind the others: a message that the next tier cannot take holds up
    nothing.

    A disk that fails costs samples, and nothing else of the node: the backlog is off then, says so,
    counts what it does not keep, and tries again after a while.

    Its questions have numbers below 0, those that somebody waits for have not: a reply belongs to
    one kind or the other for certain.

    Args:
        node: this node's name.
        pipeline: the pipeline.
        reply_to: last level of the topic that replies come on.
        config: how the next tier is asked.
        spool: where the messages wait.
        rng: draws the first number and the jitter.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        node: str,
        pipeline: str,
        reply_to: str,
        config: EscalationConfig,
        spool: Spool,
        rng: random.Random,
        metrics: NodeMetrics,
    ) -> None:
        self._node = node
        self._pipeline = pipeline
        self._reply_to = reply_to
        self._config = config.backlog
        self._spool = spool
        self._rng = rng
        self._metrics = metrics
        # Random, so that it meets none of an earlier life that are on the disk.
        first_number = -1 - rng.getrandbits(62)
        self._leftovers = Leftovers(node, pipeline, config, first_number)
        self._commit_s = -math.inf
        self._next_s = -math.inf
        self._failures = 0
        self._place = 0
        self._off_until_s: float | None = None
        self._left: list[Path] = []
        self._sent: OrderedDict[tuple[int, ...], str] = OrderedDict()

    def start(self, left: Iterable[Path] = ()) -> None:
        """Opens the spool if there is one; else the first sample that is kept begins it.

        Args:
            left: where spools of processes may be that the node no longer has; they are taken over.
        """
        if not self._config.max_bytes:
            return
        shown = self._metrics.backlog_bytes.labels(pipeline=self._pipeline)
        shown.set_function(lambda: self._spool.payload_bytes)
        self._left = [path for path in left if may_exist(path)]
        if self._left or self._spool.exists:
            self._open(-math.inf)

    # In comes what could not be asked

    @property
    def full(self) -> bool:
        """Whether ``keep`` would take nothing before the next write to the disk."""
        is_off = self._config.max_bytes == 0 or self._off_until_s is not None
        return is_off or self._leftovers.full

    def refuse(self, count: int) -> None:
        """Counts samples that were not offered because it is full."""
        if self._config.max_bytes:
            reason = "backlog_full" if self._off_until_s is None else "backlog_broken"
            self._metrics.drops.labels(reason=reason).inc(count)

    def keep(
        self,
        samples: Sequence[EscalatedSample],
        rows: NDArray[np.generic],
        probabilities: Floats,
        version: str,
    ) -> None:
        """Takes samples for later; what does not fit is dropped and counted.

        Args:
            samples: N questions; their numbers are replaced.
            rows: of the pipeline's dtype, [N, ...], as they came.
            probabilities: of this tier, float32 [N, labels].
            version: of this tier's model.
        """
        taken = 0
        if samples and not self.full:
            taken = self._leftovers.add(Batch(samples, rows, probabilities, version))
        if taken < len(samples):
            self.refuse(len(samples) - taken)

    def poll(self, now_s: float) -> None:
        """Writes what came in to the disk, at most once a second. Called each turn."""
        if self._off_until_s is not None and now_s >= self._off_until_s:
            self._open(now_s)
        if self._leftovers and now_s >= self._commit_s:
            self._commit(now_s)
            self._commit_s = now_s + COMMIT_EVERY_S

    def due_s(self) -> float | None:
        """Returns when the next write is due, monotonic, or None if nothing waits for it."""
        return self._commit_s if self._leftovers else None

    def abandon(self) -> None:
        """Counts what is lost with a spool that nobody comes back to, before ``close``."""
        count, place = len(self._leftovers), 0
        try:
            while self._spool.payload_bytes and (found := self._spool.after(place, 1)):
                place = found[0].number
                count += len(unpack(found[0].payload, Escalation).samples)
        except (StorageError, PayloadError) as error:
            log.error("the backlog cannot count what it leaves: %s", error)
        if count:
            log.warning("%d hard samples could not be asked, and are dropped", count)
            self._metrics.drops.labels(reason="backlog_abandoned").inc(count)

    def close(self) -> None:
        """Puts what is left on the disk."""
        if self._leftovers:
            self._commit(-math.inf)
        self._spool.close()

    # Out goes a message at a time

    def next(self, now_s: float, *, idle: bool) -> Escalation | None:
        """Returns the next message if it is time for one; the caller sends it at once.

        Args:
            now_s: monotonic.
            idle: whether the next tier can be reached and nothing urgent waits for it; see
                ``Escalator.quiet``.
        """
        is_on = self._off_until_s is None and self._spool.payload_bytes > 0
        if not idle or not is_on or now_s < self._next_s:
            return None
        self._next_s = now_s + self._delay_s()
        self._failures += 1
        try:
            message = self._following()
        except StorageError as error:
            self._turn_off(error, now_s)
            return None
        if message is None:
            return None
        # The node may have got another name since.
        return msgspec.structs.replace(message, node=self._node, reply_to=self._reply_to)

    def on_reply(self, correlations: Sequence[int]) -> bool:
        """Removes what the next tier has on its disk.

        Args:
            correlations: of a reply.

        Returns:
            Whether it was a reply to the backlog, and so to no question that somebody waits for.
        """
        if not correlations or correlations[0] >= 0:
            return False
        if self._remove(tuple(correlations)):
            self._go_on()
        return True

    def discard(self, message: Escalation) -> None:
        """Takes a message that ``next`` returned and that is too large to be sent, ever.

        Its halves wait in its place; a sample that is too large alone is dropped and counted.
        """
        numbers = tuple(sample.correlation for sample in message.samples)
        parts = halves(message)
        if not parts:
            if self._remove(numbers):
                self._metrics.drops.labels(reason="backlog_unsendable").inc()
            return
        key = self._sent.pop(numbers, None)
        if key is None:
            return
        try:
            self._spool.replace(key, [_entry(part) for part in parts])
        except StorageError as error:
            log.error("the backlog keeps what is too large to be sent: %s", error)
        else:
            self._go_on()

    def _remove(self, correlations: tuple[int, ...]) -> bool:
        """Removes a message that was sent; returns whether it is gone by that."""
        key = self._sent.get(correlations)
        if key is None:
            return False
        try:
            self._spool.remove((key,))
        except StorageError as error:
            log.error("the backlog keeps what it should not: %s", error)
            return False
        del self._sent[correlations]
        return True

    def _go_on(self) -> None:
        self._failures = 0
        self._next_s = -math.inf

    # The disk

    def _open(self, now_s: float) -> None:
        """Opens the spool, and takes over what processes left that are no more."""
        try:
            self._spool.open()
        except StorageError as error:
            self._turn_off(error, now_s)
            return
        self._off_until_s = None
        left, self._left = self._left, []
        for path in left:
            try:
                count = self._spool.adopt(path)
            except StorageError as error:
                log.error("the backlog of a worker that is no more stays: %s", error)
            else:
                log.info("took over %d messages of %s", count, path)

    def _turn_off(self, error: StorageError, now_s: float) -> None:
        log.error("the backlog keeps nothing for %.0f s: %s", REOPEN_S, error)
        self._off_until_s = now_s + REOPEN_S

    def _commit(self, now_s: float) -> None:
        count = len(self._leftovers)
        entries = [_entry(message) for message in self._leftovers.take()]
        try:
            gone = self._spool.add_all(entries)
        except StorageError as error:
            self._metrics.drops.labels(reason="backlog_broken").inc(count)
            self._turn_off(error, now_s)
        else:
            self._metrics.drops.labels(reason="backlog_expired").inc(gone)

    def _following(self) -> Escalation | None:
        """Returns the message behind the one that was sent last; after the newest, the oldest."""
        for place in (self._place, 0):
            self._place = place
            while found := self._spool.after(self._place, 1):
                self._place = found[0].number
                message = self._readable(found[0])
                if message is not None:
                    return message
        return None

    def _readable(self, entry: Entry) -> Escalation | None:
        """Notes an entry as sent; one that cannot be read is removed."""
        try:
            message = unpack(entry.payload, Escalation)
        except PayloadError as error:
            log.error("the backlog drops an entry: %s", error)
            self._metrics.drops.labels(reason="backlog_unreadable").inc()
            self._spool.remove((entry.key,))
            return None
        self._sent[tuple(sample.correlation for sample in message.samples)] = entry.key
        if len(self._sent) > MAX_SENT:
            self._sent.popitem(last=False)
        return message

    def _delay_s(self) -> float:
        """Exponential, capped, jittered by half."""
        doubled_s = self._config.retry_s * 2.0 ** min(self._failures, MAX_DOUBLINGS)
        return min(doubled_s, self._config.max_retry_s) * (0.5 + self._rng.random() / 2)


def _entry(message: Escalation) -> tuple[str, bytes]:
    """Returns a message as an entry of the spool, under a key of its own."""
    return uuid.uuid4().hex, pack(message)
