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
        self._answers: list[Answer] = []

    def add(self, answer: Answer) -> None:
        """Notes an answer that goes out."""
        self._answers.append(answer)

    def flush(self) -> None:
        """Puts what was noted into the metrics; a correction answers nothing anew."""
        counts: Counter[tuple[DecidedBy, Reason]] = Counter()
        latencies_s = []
        for answer in self._answers:
            tally = answer.tally()
            for key, count in tally:
                counts[key] += count
            if tally:
                latencies_s.append(answer.prediction.latency_ms / 1000)
        self._answers.clear()
        for (by, reason), count in counts.items():
            self._metrics.predictions.labels(decided_by=by, reason=reason).inc(count)
        if latencies_s:
            self._metrics.latency_seconds.observe(latencies_s)
