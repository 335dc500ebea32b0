"""What a node counts of its answers, put into the metrics once a turn."""

from __future__ import annotations

from collections import Counter

from shared.messages import DecidedBy, Reason
from shared.metrics import NodeMetrics
from tier1.answers import Answer


class Tally:
    """Counts answers cheaply: a metric's look-up by label costs more than a sample's decoding.

    Args:
        metrics: where the counts go.
    """

    def __init__(self, metrics: NodeMetrics) -> None:
        self._metrics = metrics
        self._counts: Counter[tuple[DecidedBy, Reason]] = Counter()
        self._latencies_s: list[float] = []

    def add(self, answer: Answer) -> None:
        """Counts an answer that goes out; a correction answers nothing anew."""
        counts = answer.tally()
        for key, count in counts:
            self._counts[key] += count
        if counts:
            self._latencies_s.append(answer.prediction.latency_ms / 1000)

    def flush(self) -> None:
        """Puts what was counted into the metrics."""
        if not self._latencies_s:
            return
        for (by, reason), count in self._counts.items():
            self._metrics.predictions.labels(decided_by=by, reason=reason).inc(count)
        self._metrics.latency_seconds.observe(self._latencies_s)
        self._counts.clear()
        self._latencies_s.clear()
