"""How far a training is stands in the metrics while it runs, and no longer."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from cloud.gauges import TrainingGauges
from cloud.training.progress import Progress
from shared.metrics import CloudMetrics

NAME = "edge_training_progress_ratio"


def test_a_training_is_shown_while_it_runs() -> None:
    metrics = CloudMetrics(CollectorRegistry())
    gauges = TrainingGauges(metrics)
    shown = []
    for progress in (None, Progress("tier2", 3, 12), None, None):
        gauges.show("meter", progress)
        shown.append(metrics.registry.get_sample_value(NAME, {"pipeline": "meter"}))
    assert shown == [None, 0.25, None, None]
