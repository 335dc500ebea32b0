"""A histogram that takes a whole batch of observations at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class LatencyHistogram(Collector):
    """Counts latencies in buckets.

    prometheus-client's own histogram takes one observation a call, which costs a node more than the
    decoding of the sample that it observes.

    Args:
        name: of the metric, with its unit.
        documentation: what it says.
        buckets_s: upper bounds, ascending, in seconds.
        registry: where it is registered.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        buckets_s: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds_s = np.asarray(buckets_s, np.float64)
        self._counts = np.zeros(len(buckets_s) + 1, np.int64)
        self._sum_s = 0.0
        registry.register(self)

    def observe(self, latencies_s: Sequence[float]) -> None:
        """Adds observations, in seconds."""
        observed = np.asarray(latencies_s, np.float64)
        places = np.searchsorted(self._bounds_s, observed, side="left")
        # A new array, and not a sum into the old one: a scrape reads from another thread.
        self._counts = self._counts + np.bincount(places, minlength=len(self._counts))
        self._sum_s += float(observed.sum())

    def collect(self) -> Iterable[Metric]:
        """Returns the metric, for a scrape."""
        cumulative = np.cumsum(self._counts).tolist()
        bounds = [*map(str, self._bounds_s.tolist()), "+Inf"]
        yield HistogramMetricFamily(
            self._name,
            self._documentation,
            buckets=list(zip(bounds, cumulative, strict=True)),
            sum_value=self._sum_s,
        )
