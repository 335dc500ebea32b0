"""What a node may use is divided among its workers, and what is a worker's own is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.workers.worker import Worker
from tier1.config import Tier1Config

ESCALATION = {
    "max_inflight": 100,
    "budget": {"samples_per_minute": 600},
    "backlog": {"max_bytes": 1000},
}


BROKER = {"url": "mqtt://127.0.0.1"}


def config(folder: Path, broker: dict[str, Any] = BROKER, **pipeline: Any) -> Tier1Config:
    (folder / "small.onnx").touch()
    model = {"path": "small.onnx", "labels": ["good", "bent"]}
    node = {
        "role": "tier1",
        "node": "press-3",
        "site": "plant-a",
        "state_dir": "state",
        "workers": 4,
        "broker": broker,
        "pipelines": {
            "quality": {
                "input": {"shape": [3]}, "model": model, "escalation": ESCALATION, **pipeline
            }
        },
    }  # fmt: skip
    context = {"environment": {}, "folder": folder}
    return Tier1Config.model_validate(node, context=context, strict=False)


def test_a_worker_has_its_part_of_what_the_next_tier_is_asked(tmp_path: Path) -> None:
    part = config(tmp_path).part(Worker(1, 4)).pipelines["quality"].escalation
    assert part.max_inflight == 25
    assert part.budget.samples_per_minute == 150
    assert part.budget.bytes_per_minute is None
    assert part.backlog.max_bytes == 250


def test_what_cannot_be_divided_is_one_each(tmp_path: Path) -> None:
    whole = config(tmp_path, escalation={"max_inflight": 1, "budget": {"samples_per_minute": 2}})
    part = whole.part(Worker(3, 4)).pipelines["quality"].escalation
    assert (part.max_inflight, part.budget.samples_per_minute) == (1, 1)


def test_a_worker_has_a_port_of_its_own_and_the_name_of_the_node(tmp_path: Path) -> None:
    part = config(tmp_path).part(Worker(2, 4))
    assert part.metrics.port == 9466
    assert (part.node, part.state_dir) == ("press-3", tmp_path / "state")


def test_questions_fit_into_a_packet(tmp_path: Path) -> None:
    narrow = {"url": "mqtt://127.0.0.1", "max_packet_bytes": 2**17}
    part = config(tmp_path, narrow).part(Worker()).pipelines["quality"].escalation
    assert 2**16 < part.max_message_bytes < 2**17
    small = config(tmp_path, narrow, escalation={"max_message_bytes": 2**14}).part(Worker())
    assert small.pipelines["quality"].escalation.max_message_bytes == 2**14


def test_a_node_without_workers_keeps_everything(tmp_path: Path) -> None:
    whole = config(tmp_path)
    assert whole.part(Worker()) == whole


def test_a_route_for_what_the_pipeline_does_not_have_is_refused(tmp_path: Path) -> None:
    route = {"topic": "plant/stop", "payload": "stop"}
    config(tmp_path, routes=[{**route, "when": {"label": ["bent"]}}])
    with pytest.raises(ValidationError, match="the label bend"):
        config(tmp_path, routes=[{**route, "when": {"label": ["bend"]}}])
    with pytest.raises(ValidationError, match="the sensor cam-9"):
        config(tmp_path, sensors=["cam-1"], routes=[{**route, "when": {"sensor": ["cam-9"]}}])
