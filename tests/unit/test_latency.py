"""The batched histogram says what prometheus-client's own would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from shared.latency import LatencyHistogram

BUCKETS_S = (0.001, 0.01, 0.5, 1.0)


@given(st.lists(st.lists(st.sampled_from([0.0, 0.0005, 0.001, 0.0011, 0.5, 0.7, 1.0, 9.0]))))
def test_it_is_scraped_like_prometheus_clients_own(batches: list[list[float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = LatencyHistogram("wait_seconds", "How long", BUCKETS_S, ours)
    reference = Histogram("wait_seconds", "How long", buckets=BUCKETS_S, registry=theirs)
    for batch in batches:
        histogram.observe(batch)
        for latency_s in batch:
            reference.observe(latency_s)
    for line in generate_latest(theirs).decode().splitlines():
        name = line.split(" ")[0]
        if "_created" in line or not name.startswith("wait_seconds_"):
            continue
        value = float(line.rsplit(" ", 1)[1])
        bucket = {"le": name.split('"')[1]} if "{" in name else {}
        found = ours.get_sample_value(name.split("{")[0], bucket)
        assert found == pytest.approx(value), line
