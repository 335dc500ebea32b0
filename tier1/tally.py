"""What a node counts of its answers, put into the metrics once a turn."""

from __future__ import annotations

import math
from collections import Counter

from shared.messages import DecidedBy, Reason
from shared.metrics import NodeMetrics
from tier1.answers import Answer

FLUSH_EVERY_S = 0.1
MAX_COUNTED = 4096


class Tally:
    """Counts answers cheaply: a metric's look-up by label costs more than a sample's decoding.

    Args:
        metrics: where the counts go.
    """

    def __init__(self, metrics: NodeMetrics) -> None:
        self._metrics = metrics
        self._counts: Counter[tuple[DecidedBy, Reason]] = Counter()
        self._latencies_s: list[float] = []
        self._due_s = -math.inf

    def add(self, answer: Answer) -> None:
        """Counts an answer that goes out; a correction answers nothing anew."""
        tally = answer.tally()
        for key, count in tally:
            self._counts[key] += count
        if tally:
            self._latencies_s.append(answer.prediction.latency_ms / 1000)

    def poll(self, now_s: float) -> None:
        """Puts what was counted into the metrics, now and then."""
        if self._latencies_s and (now_s >= self._due_s or len(self._latencies_s) >= MAX_COUNTED):
            self._due_s = now_s + FLUSH_EVERY_S
            self.flush()

    def flush(self) -> None:
        """Puts what was counted into the metrics."""
        for (by, reason), count in self._counts.items():
            self._metrics.predictions.labels(decided_by=by, reason=reason).inc(count)
        if self._latencies_s:
            self._metrics.latency_seconds.observe(self._latencies_s)
        self._counts.clear()
        self._latencies_s.clear()
