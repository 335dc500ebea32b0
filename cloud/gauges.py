"""Shows trainings, rollouts and fleet in the metrics."""

from __future__ import annotations

from collections.abc import Iterable

from cloud.fleet_view import NodeEntry
from cloud.rollout.phases import Phase
from cloud.rollout.record import RolloutRecord
from cloud.training.progress import Progress
from shared.metrics import CloudMetrics
from shared.releases.machine import State

OPEN = "open"
OUTCOMES = (
    State.COMMITTED, State.REJECTED, State.FAILED_NO_STATE_CHANGE, State.ROLLED_BACK,
    State.TIMED_OUT,
)  # fmt: skip


class TrainingGauges:
    """Sets the gauges of trainings.

    Args:
        metrics: the cloud's.
    """

    def __init__(self, metrics: CloudMetrics) -> None:
        self._metrics = metrics
        self._shown: dict[str, Progress] = {}

    def show(self, pipeline: str, progress: Progress | None) -> None:
        """Shows how far a pipeline's training is; None where none runs."""
        if self._shown.get(pipeline) == progress:
            return
        gauge = self._metrics.training_progress
        if progress is None:
            del self._shown[pipeline]
            gauge.remove(pipeline)
        else:
            self._shown[pipeline] = progress
            gauge.labels(pipeline).set(progress.share)


class RolloutGauges:
    """Sets the gauges of rollouts.

    Args:
        metrics: the cloud's.
    """

    def __init__(self, metrics: CloudMetrics) -> None:
        self._metrics = metrics
        self._shown: dict[str, RolloutRecord] = {}

    def show(self, record: RolloutRecord) -> None:
        """Shows a channel's rollout."""
        if self._shown.get(record.channel) is record:
            return
        self._shown[record.channel] = record
        for phase in Phase:
            gauge = self._metrics.rollout_phase.labels(record.channel, phase.value)
            gauge.set(phase is record.phase)
        outcomes = [course.outcome for course in record.nodes.values()]
        for outcome in (None, *OUTCOMES):
            name = OPEN if outcome is None else outcome.value
            gauge = self._metrics.rollout_nodes.labels(record.channel, name)
            gauge.set(outcomes.count(outcome))

    def show_fleet(self, nodes: Iterable[NodeEntry]) -> None:
        """Shows how many nodes are known."""
        online = [node.online for node in nodes]
        for state, is_online in (("online", True), ("offline", False)):
            self._metrics.fleet_nodes.labels(state).set(online.count(is_online))
