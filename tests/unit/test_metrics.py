"""Metrics live in the registry that is given, and say what serves."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from shared.config import MetricsConfig
from shared.errors import ConfigError
from shared.metrics import CloudMetrics, NodeMetrics, serve_metrics


def test_two_nodes_in_one_process_count_apart() -> None:
    one, other = NodeMetrics(CollectorRegistry()), NodeMetrics(CollectorRegistry())
    one.drops.labels(reason="not_json").inc()
    sample = ("edge_drops_total", {"reason": "not_json"})
    assert one.registry.get_sample_value(*sample) == 1
    assert other.registry.get_sample_value(*sample) is None


def test_only_the_model_that_serves_is_shown(metrics: NodeMetrics) -> None:
    metrics.show_model("meter", ("meter-tier1", "1"))
    metrics.show_model("gauge", ("gauge-tier1", "1"))
    metrics.show_model("meter", ("meter-tier1", "2"))
    shown = {
        (sample.labels["pipeline"], sample.labels["version"])
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "edge_model_info"
    }
    assert shown == {("meter", "2"), ("gauge", "1")}


def test_counters_and_times_carry_their_units_in_their_names(metrics: NodeMetrics) -> None:
    names = {(family.name, family.type) for family in metrics.registry.collect()}
    assert ("edge_inference_latency_seconds", "histogram") in names
    assert ("edge_spool_bytes", "gauge") in names
    exposed = generate_latest(metrics.registry).decode()
    counters = {name for name, kind in names if kind == "counter"}
    assert counters
    assert all(f"# TYPE {name}_total counter" in exposed for name in counters)


def test_a_scraper_reads_them_over_http_on_a_free_port() -> None:
    metrics = CloudMetrics(CollectorRegistry())
    metrics.samples.inc(5)
    url = serve_metrics(MetricsConfig(port=0), metrics.registry)
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert "edge_telemetry_samples_total 5.0" in answer.read().decode()


def test_a_taken_port_is_an_error_of_configuration_with_a_fix() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = MetricsConfig(port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match=r"Fix: set metrics\.port"):
            serve_metrics(config, CollectorRegistry())
