"""Local action: from a prediction to the messages that it sets off. Pure, but for one counter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
from prometheus_client import Counter

from shared.messages import DecidedBy, PackPrediction, Prediction
from tier1.routes_config import RouteConfig
from tier1.templates import PayloadTemplate, TopicTemplate, Values

NONE: tuple[Action, ...] = ()


class Action(msgspec.Struct, frozen=True, gc=False):
    """A message to publish.

    Attributes:
        topic: where to.
        payload: what.
        qos: 0 or 1.
        retain: whether the broker keeps it for later subscribers.
    """

    topic: str
    payload: bytes
    qos: Literal[0, 1]
    retain: bool


class Route:
    """One route, ready to be taken.

    Args:
        config: its configuration.
    """

    def __init__(self, config: RouteConfig) -> None:
        when = config.when
        self.labels = when.label
        self.fires_on_corrections = config.corrections
        self._low = -math.inf if when.min_confidence is None else when.min_confidence
        self._high = math.inf if when.max_confidence is None else when.max_confidence
        self._is_bounded = when.min_confidence is not None or when.max_confidence is not None
        self._decided_by = None if when.decided_by is None else frozenset(when.decided_by)
        self._sensors = None if when.sensor is None else frozenset(when.sensor)
        self._topic = TopicTemplate(config.topic)
        self._payload = PayloadTemplate(config.payload)
        self._qos: Literal[0, 1] = config.qos
        self._retain = config.retain

    def holds(self, confidence: float, decided_by: DecidedBy, sensor: str) -> bool:
        """Whether all of its condition but the label holds. No bound holds for NaN."""
        return (
            (not self._is_bounded or self._low <= confidence <= self._high)
            and (self._decided_by is None or decided_by in self._decided_by)
            and (self._sensors is None or sensor in self._sensors)
        )

    def action(self, values: Values) -> Action | None:
        """Returns what to publish, or None if a value cannot stand in the topic."""
        topic = self._topic.fill(values)
        if topic is None:
            return None
        return Action(topic, self._payload.fill(values), self._qos, self._retain)


class Routes:
    """All routes of a pipeline.

    A prediction that no route waits for costs one look-up by its label.

    Args:
        pipeline: its name.
        configs: its routes, in the order of the file, which is the order of the actions.
        drops: counts what is not published, with ``reason="bad_route_topic"``.
    """

    def __init__(self, pipeline: str, configs: Sequence[RouteConfig], drops: Counter) -> None:
        routes = [Route(config) for config in configs]
        labels = {label for route in routes for label in route.labels or ()}
        self._pipeline = pipeline
        self._drops = drops
        self._for_any = tuple(route for route in routes if route.labels is None)
        self._by_label = {
            label: tuple(r for r in routes if r.labels is None or label in r.labels)
            for label in labels
        }

    def actions(self, prediction: Prediction) -> Sequence[Action]:
        """Returns what a prediction sets off."""
        routes = self._by_label.get(prediction.prediction, self._for_any)
        if not routes:
            return NONE
        confidence, decided_by = prediction.confidence, prediction.decided_by
        sensor, is_correction = prediction.device_id, prediction.is_correction
        taken = [
            route
            for route in routes
            if route.holds(confidence, decided_by, sensor)
            and (route.fires_on_corrections or not is_correction)
        ]
        return self._fire(taken, self._values(prediction)) if taken else NONE

    def pack_actions(self, pack: PackPrediction) -> Sequence[Action]:
        """Returns what the predictions of a pack set off, sample by sample."""
        if not self._for_any and self._by_label.keys().isdisjoint(pack.predictions):
            return NONE
        actions: list[Action] = []
        for row, label in enumerate(pack.predictions):
            confidence, decided_by = pack.confidences[row], pack.decided_by[row]
            routes = self._by_label.get(label, self._for_any)
            taken = [r for r in routes if r.holds(confidence, decided_by, pack.device_id)]
            if taken:
                actions += self._fire(taken, self._row_values(pack, row))
        return actions

    def _fire(self, routes: Sequence[Route], values: Values) -> list[Action]:
        actions = [action for route in routes if (action := route.action(values)) is not None]
        if len(actions) < len(routes):
            self._drops.labels(reason="bad_route_topic").inc(len(routes) - len(actions))
        return actions

    def _values(self, prediction: Prediction) -> Values:
        return {
            "id": prediction.id,
            "sensor": prediction.device_id,
            "label": prediction.prediction,
            "confidence": prediction.confidence,
            "decided_by": prediction.decided_by,
            "reason": prediction.reason,
            "model": prediction.model,
            "model_version": prediction.model_version,
            "timestamp": prediction.timestamp,
            "latency_ms": prediction.latency_ms,
            "node": prediction.node,
            "pipeline": self._pipeline,
        }

    def _row_values(self, pack: PackPrediction, row: int) -> Values:
        own_ids = pack.ids if pack.ids is not msgspec.UNSET else None
        return {
            "id": own_ids[row] if own_ids is not None else f"{pack.id}/{row}",
            "sensor": pack.device_id,
            "label": pack.predictions[row],
            "confidence": pack.confidences[row],
            "decided_by": pack.decided_by[row],
            "reason": pack.reasons[row],
            "model": "",  # a pack names the versions alone
            "model_version": pack.model_versions[row],
            "timestamp": pack.timestamp,
            "latency_ms": pack.latency_ms,
            "node": pack.node,
            "pipeline": self._pipeline,
        }
