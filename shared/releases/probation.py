"""Watches a new model against the one before it, and says what is to become of it. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

import msgspec

from shared.probation_config import ProbationConfig
from shared.releases.baseline import Baseline, Promise, ReadRss
from shared.releases.criteria import CRITERIA, Case
from shared.releases.health import Health

LOOK_S = 0.1
RSS_STEP_S = 1.0
RSS_READINGS = 3
"""Of so many readings the smallest counts: a short peak is not the model's."""
STALL_S = 60.0
"""A first batch that takes longer does not come back any more; the smoke test waits as long."""


class Decision(Enum):
    """What is to become of a new model."""

    WATCH = auto()
    """Nothing yet."""
    COMMIT = auto()
    """It stays."""
    ROLL_BACK = auto()
    """The one before serves again, from the next batch on."""


@dataclass(frozen=True)
class Verdict:
    """What a probation says.

    Attributes:
        decision: what is to become of the model.
        reason: why, with figures; empty where there is nothing to say.
        criterion: the one that it failed, of ``CRITERIA``, or ``stalled``; empty if none.
        blames_model: whether its bytes are not to be tried again. Not where it lost its upstream:
            the link or the next tier may be at fault.
    """

    decision: Decision
    reason: str = ""
    criterion: str = ""
    blames_model: bool = False


WATCH = Verdict(Decision.WATCH)


def judge(
    baseline: Baseline | None,
    before: Health,
    now: Health,
    elapsed_s: float,
    *,
    probation_s: float,
    limits: ProbationConfig,
    promise: Promise,
) -> Verdict:
    """Judges a new model by all that was counted since it serves.

    Args:
        baseline: what the model before did; None if there was none. Then only what is bad in
            itself counts: malformed scores, batches that cannot be run, more escalations than the
            release promises.
        before: what was counted when the new model began to serve.
        now: what is counted now.
        elapsed_s: since then.
        probation_s: how long it is watched.
        limits: what it may do worse.
        promise: what the release says of itself.
    """
    seen = now.since(before)
    case = Case(baseline, promise, seen, elapsed_s / probation_s, limits)
    for name, criterion in CRITERIA.items():
        reason = criterion(case)
        if reason:
            return Verdict(Decision.ROLL_BACK, reason, name, name != "lost_upstream")
    if elapsed_s < probation_s:
        return WATCH
    if seen.under_way and not seen.batches:
        return _stalled(elapsed_s)
    if seen.samples >= limits.min_samples:
        return Verdict(Decision.COMMIT)
    if elapsed_s < probation_s + limits.max_extension_s:
        return WATCH
    reason = f"committed unwatched: {seen.samples} samples in {elapsed_s:.0f} s"
    return Verdict(Decision.COMMIT, reason)


def _stalled(elapsed_s: float) -> Verdict:
    if elapsed_s < STALL_S:
        return WATCH
    reason = f"its first batch has not come back in {elapsed_s:.0f} s"
    return Verdict(Decision.ROLL_BACK, reason, "stalled", blames_model=True)


class Probation:
    """The probation of one model.

    Args:
        baseline: what the model before did; None if there was none.
        promise: what the release says of itself.
        limits: what it may do worse.
        probation_s: how long it is watched.
        before: what was counted when the new model began to serve.
        now_s: monotonic.
    """

    def __init__(
        self,
        *,
        baseline: Baseline | None,
        promise: Promise,
        limits: ProbationConfig,
        probation_s: float,
        before: Health,
        now_s: float,
    ) -> None:
        self._baseline = baseline
        self._promise = promise
        self._limits = limits
        self._probation_s = probation_s
        self._before = before
        self._began_s = now_s
        self._broken = before.broken_batches
        self._look_s = now_s
        self._rss_due_s = now_s
        self._rss_bytes: deque[int] = deque(maxlen=RSS_READINGS)

    def poll(self, health: Health, now_s: float, read_rss: ReadRss) -> Verdict:
        """Looks at what is counted now. Cheap enough for every turn of the loop.

        Malformed scores are judged at once, all else ten times a second.

        Args:
            health: what the pipeline has counted so far.
            now_s: monotonic.
            read_rss: reads the memory of this process; called once a second.
        """
        elapsed_s = now_s - self._began_s
        is_news = health.broken_batches != self._broken
        if now_s < self._look_s and elapsed_s < self._probation_s and not is_news:
            return WATCH
        self._look_s = now_s + LOOK_S
        self._broken = health.broken_batches
        return judge(
            self._baseline,
            self._before,
            msgspec.structs.replace(health, rss_bytes=self._steady_rss(now_s, read_rss)),
            elapsed_s,
            probation_s=self._probation_s,
            limits=self._limits,
            promise=self._promise,
        )

    def _steady_rss(self, now_s: float, read_rss: ReadRss) -> int | None:
        if now_s >= self._rss_due_s:
            self._rss_due_s = now_s + RSS_STEP_S
            rss_bytes = read_rss()
            if rss_bytes is not None:
                self._rss_bytes.append(rss_bytes)
        return min(self._rss_bytes) if len(self._rss_bytes) == RSS_READINGS else None
