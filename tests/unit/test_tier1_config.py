"""A tier-1 node's configuration across its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.builders import LABELS, SHAPE, echo_onnx
from tier1.config import Tier1Config


def node(folder: Path, *pipelines: dict[str, Any]) -> Tier1Config:
    (folder / "echo.onnx").write_bytes(echo_onnx())
    model = {"path": folder / "echo.onnx", "labels": LABELS}
    common = {"input": {"shape": SHAPE}, "model": model}
    return Tier1Config.model_validate(
        {
            "role": "tier1",
            "node": "tier1-a",
            "site": "plant",
            "broker": {"url": "mqtt://127.0.0.1"},
            "state_dir": folder / "state",
            "pipelines": {f"p{number}": common | each for number, each in enumerate(pipelines)},
        },
        strict=False,
    )


def batching(queue_size: int, overflow: str) -> dict[str, Any]:
    return {"batching": {"queue_size": queue_size, "overflow": overflow}}


PACKS = {"format": {"kind": "raw", "dtype": "float32", "pack": {"max_samples": 32}}}


@pytest.mark.parametrize(
    ("pipelines", "expected"),
    [
        pytest.param([batching(10, "reject")], None, id="refuses"),
        pytest.param([batching(10, "block")], 10, id="blocks"),
        pytest.param([batching(10, "block"), batching(5, "block")], 5, id="the-smaller-queue"),
        pytest.param([batching(10, "block"), batching(5, "reject")], 10, id="only-one-blocks"),
        pytest.param([batching(100, "block") | PACKS], 3, id="packs-of-32"),
        pytest.param([batching(32, "block") | PACKS], 1, id="one-pack"),
    ],
)
def test_a_broker_may_send_what_the_queue_of_a_blocking_pipeline_holds(
    tmp_path: Path, pipelines: list[dict[str, Any]], expected: int | None
) -> None:
    assert node(tmp_path, *pipelines).receive_maximum == expected


def test_what_the_broker_does_not_keep_cannot_be_left_to_it(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="overflow: block"):
        node(tmp_path, batching(10, "block") | {"delivery": "at_most_once"})


@pytest.mark.parametrize("topic", ["plant/vibration", "plant/#/{sensor}", "$SYS/{sensor}"])
def test_a_topic_that_names_no_sensor_is_refused(tmp_path: Path, topic: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        node(tmp_path, {"topic": topic})
    assert refusal.value.errors()[0]["loc"] == ("pipelines", "p0", "topic")


def test_a_pack_larger_than_the_queue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="do not fit a queue of 10"):
        node(tmp_path, batching(10, "reject") | PACKS)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        pytest.param({"topic": "a/{sensor}"}, {"topic": "a/{sensor}"}, id="the-same"),
        pytest.param({"topic": "a/{sensor}/x"}, {"topic": "+/b/{sensor}"}, id="wildcards"),
        pytest.param(
            {"topic": "a/{sensor}", "sensors": ["s1", "s2"]},
            {"topic": "a/{sensor}", "sensors": ["s2"]},
            id="one-sensor-in-both",
        ),
        pytest.param(
            {"topic": "a/{sensor}", "sensors": ["s1"]}, {"topic": "a/{sensor}"}, id="all-and-one"
        ),
    ],
)
def test_two_pipelines_that_would_answer_one_sample_are_refused(
    tmp_path: Path, one: dict[str, Any], two: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError, match="p0 and p1 would both answer"):
        node(tmp_path, one, two)


@pytest.mark.parametrize(
    "topic", ["escalon/plant/p0/samples/$sensor", "escalon/plant/p1/samples/cam-01", "$label/$id"]
)
def test_a_route_that_would_feed_the_node_is_refused(tmp_path: Path, topic: str) -> None:
    routes = {"routes": [{"topic": topic, "payload": "x"}]}
    with pytest.raises(ValidationError, match="where samples come in"):
        node(tmp_path, routes, {"topic": "{sensor}/x"} if topic == "$label/$id" else {})


def test_a_route_to_anywhere_else_is_fine(tmp_path: Path) -> None:
    routes = {"routes": [{"topic": "press/$sensor/stop", "payload": "x"}]}
    assert node(tmp_path, routes).pipelines["p0"].routes[0].topic == "press/$sensor/stop"


@pytest.mark.parametrize(
    ("one", "two"),
    [
        pytest.param({}, {}, id="topics-of-their-own"),
        pytest.param({"topic": "a/{sensor}"}, {"topic": "b/{sensor}"}, id="other-topics"),
        pytest.param({"topic": "a/{sensor}"}, {"topic": "a/{sensor}/x"}, id="other-lengths"),
        pytest.param(
            {"topic": "a/{sensor}", "sensors": ["s1"]},
            {"topic": "a/{sensor}", "sensors": ["s2"]},
            id="other-sensors",
        ),
    ],
)
def test_pipelines_that_share_no_sample_are_fine(
    tmp_path: Path, one: dict[str, Any], two: dict[str, Any]
) -> None:
    assert len(node(tmp_path, one, two).pipelines) == 2
