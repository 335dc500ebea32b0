"""Prometheus metrics of a node. Base units, and no label whose values grow with the fleet."""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from shared.config import MetricsConfig
from shared.errors import ConfigError
from shared.latency import LatencyHistogram

LATENCY_BUCKETS_S = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
)  # fmt: skip

log = logging.getLogger(__name__)


class NodeMetrics:
    """What a tier node counts.

    Args:
        registry: where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.inferences = Counter(
            "edge_inference_total", "Samples that went through the model",
            ["model_version", "status"], registry=registry,
        )  # fmt: skip
        self.latency_seconds = LatencyHistogram(
            "edge_inference_latency_seconds",
            "From receipt of a sample to its final answer",
            LATENCY_BUCKETS_S,
            registry,
        )
        self.predictions = Counter(
            "edge_predictions_total", "Final answers", ["decided_by", "reason"], registry=registry
        )
        self.escalations = Counter(
            "edge_escalations_total", "Questions to tier-2 by what became of them",
            ["outcome"], registry=registry,
        )  # fmt: skip
        self.agreement = Counter(
            "edge_agreement_total", "Tier-2's answers that were tier-1's too, or not",
            ["kind", "agrees"], registry=registry,
        )  # fmt: skip
        self.drops = Counter(
            "edge_drops_total", "Messages that were not used", ["reason"], registry=registry
        )
        self.deferrals = Counter(
            "edge_deferrals_total",
            "Samples left to the broker: the queue was full (overflow: block), or a worker did not "
            "know yet whose they are",
            registry=registry,
        )
        self.ready = Gauge(
            "edge_ready", "1 while the node is connected and every pipeline has a model",
            registry=registry,
        )  # fmt: skip
        self.conflicts = conflicts_counter(registry)
        self.spool_bytes = Gauge(
            "edge_spool_bytes", "Telemetry on the disk that the cloud has not stored yet",
            registry=registry,
        )  # fmt: skip
        self.backlog_bytes = Gauge(
            "edge_backlog_bytes", "Hard samples on the disk that could not be asked yet",
            ["pipeline"], registry=registry,
        )  # fmt: skip
        self.breaker_open = Gauge(
            "edge_breaker_open", "1 while the next tier does not answer in time and is left alone",
            ["pipeline"], registry=registry,
        )  # fmt: skip
        self.certificate_valid = Gauge(
            "edge_certificate_valid",
            "1 while what was certified of the threshold counts; 0 where it is broken or void, or "
            "nothing was certified",
            ["pipeline"], registry=registry,
        )  # fmt: skip
        self.threshold = Gauge(
            "edge_threshold", "Certainty from which the gate accepts; +Inf: it accepts nothing",
            ["pipeline"], registry=registry,
        )  # fmt: skip
        self.drift_alarms = Counter(
            "edge_drift_alarms_total", "Signs that the answers of a model have drifted",
            ["pipeline", "signal"], registry=registry,
        )  # fmt: skip
        self.model_info = Gauge(
            "edge_model_info", "1 for the model that serves a pipeline",
            ["pipeline", "model", "version"], registry=registry,
        )  # fmt: skip
        self.updates = Counter(
            "edge_updates_total", "States that updates went through", ["channel", "state"],
            registry=registry,
        )  # fmt: skip
        self.release_stale = Gauge(
            "edge_release_stale", "1 once the newest manifest of a channel has expired",
            ["channel"], registry=registry,
        )  # fmt: skip
        self._shown: dict[str, tuple[str, str]] = {}

    def show_model(self, pipeline: str, model: tuple[str, str] | None) -> None:
        """Says which model serves a pipeline, and no longer which one did.

        Args:
            pipeline: the pipeline.
            model: its name and version, or None if there is none.
        """
        if pipeline in self._shown:
            self.model_info.remove(pipeline, *self._shown.pop(pipeline))
        if model is not None:
            self._shown[pipeline] = model
            self.model_info.labels(pipeline, *model).set(1)

    def show_certificate(self, pipeline: str, threshold: float | None, *, holds: bool) -> None:
        """Says by which threshold a pipeline's gate goes, and whether its certificate counts.

        Args:
            pipeline: the pipeline.
            threshold: infinite where it accepts nothing; None where no model serves.
            holds: whether it counts.
        """
        self.certificate_valid.labels(pipeline).set(holds)
        if threshold is not None:
            self.threshold.labels(pipeline).set(threshold)


class CloudMetrics:
    """What the cloud node counts.

    Args:
        registry: where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.conflicts = conflicts_counter(registry)
        self.samples = Counter(
            "edge_telemetry_samples_total", "Samples in the store", registry=registry
        )
        self.training_progress = Gauge(
            "edge_training_progress_ratio",
            "Share of the passes of the model that is being trained; nothing while none is",
            ["pipeline"], registry=registry,
        )  # fmt: skip
        self.labels = Counter(
            "edge_labels_total",
            "Labels of people: joined to their samples, waiting for them, known, refused, dropped",
            ["outcome"], registry=registry,
        )  # fmt: skip
        self.withheld = Counter(
            "edge_inputs_withheld_total", "Samples whose inputs stayed on their sites",
            ["pipeline"], registry=registry,
        )  # fmt: skip
        self.store_bytes = Gauge(
            "edge_store_bytes", "What telemetry takes in the store, rows and inputs, about",
            registry=registry,
        )  # fmt: skip
        self.fleet_nodes = Gauge(
            "edge_fleet_nodes", "Nodes that the cloud knows, by whether they are online",
            ["state"], registry=registry,
        )  # fmt: skip
        self.rollout_phase = Gauge(
            "edge_rollout_phase", "1 for the phase that a channel's rollout is in",
            ["channel", "phase"], registry=registry,
        )  # fmt: skip
        self.rollout_nodes = Gauge(
            "edge_rollout_nodes",
            "Nodes that were offered a rollout's release, by how it ended; open for not yet",
            ["channel", "outcome"], registry=registry,
        )  # fmt: skip
        self.drift_alarms = Counter(
            "edge_drift_alarms_total", "Drifts that were found, by the test that found them",
            ["pipeline", "signal"], registry=registry,
        )  # fmt: skip
        self.certificate_valid = Gauge(
            "edge_certificate_valid",
            "1 while what was certified of the threshold counts; 0 once a drift has voided it, or "
            "where nothing was certified",
            ["pipeline"], registry=registry,
        )  # fmt: skip
        self.agreement = Gauge(
            "edge_accepted_agreement",
            "Share of what tier-1 accepts that tier-2 agrees with, by tier-1's confidence or by "
            "the audit, with its interval",
            ["pipeline", "way", "bound"], registry=registry,
        )  # fmt: skip
        self.drops = Counter(
            "edge_drops_total", "Messages that were not used", ["reason"], registry=registry
        )


def conflicts_counter(registry: CollectorRegistry) -> Counter:
    """Makes the counter of the signs that another process runs under this node's name."""
    return Counter(
        "edge_conflicts_total",
        "Signs of another process under this node's name",
        registry=registry,
    )


def serve_metrics(config: MetricsConfig, registry: CollectorRegistry) -> str:
    """Serves a registry over HTTP from a thread of its own.

    Returns:
        The URL that Prometheus scrapes.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    try:
        server, _ = start_http_server(config.port, config.host, registry)
    except OSError as error:
        raise ConfigError(
            f"cannot serve metrics on {config.host}:{config.port}: {error.strerror}. "
            "Fix: set metrics.port to a free port, or to 0 for any."
        ) from error
    url = f"http://{config.host}:{server.server_port}/metrics"
    log.info("metrics at %s", url)
    return url
