"""What a tier-1 node's configuration comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tier1.config import Tier1Config


def config(tmp_path: Path, *batching: dict[str, Any]) -> Tier1Config:
    """A node with a pipeline for each of these sections."""
    trust = tmp_path / "release.pub"
    trust.touch()
    pipelines = {
        f"meter-{number}": {
            "input": {"shape": (4,)},
            "releases": {"channel": f"meter-{number}", "trust": trust},
            "batching": section,
        }
        for number, section in enumerate(batching)
    }
    return Tier1Config.model_validate(
        {
            "role": "tier1",
            "node": "edge-1",
            "site": "site-a",
            "state_dir": tmp_path,
            "broker": {"url": "mqtt://localhost"},
            "pipelines": pipelines,
        }
    )


@pytest.mark.parametrize(
    ("batching", "receive_maximum"),
    [
        ([{"queue_size": 5}, {"queue_size": 7, "overflow": "drop_oldest"}], None),
        ([{"queue_size": 5}, {"queue_size": 7, "overflow": "block"}], 7),
        ([{"queue_size": size, "overflow": "block"} for size in (9, 8, 10)], 8),
    ],
    ids=["none blocks", "one blocks", "the smallest queue"],
)
def test_broker_may_send_what_the_smallest_blocking_queue_holds(
    tmp_path: Path, batching: list[dict[str, Any]], receive_maximum: int | None
) -> None:
    assert config(tmp_path, *batching).receive_maximum == receive_maximum


def with_limits(tmp_path: Path, broker: dict[str, Any], pipeline: dict[str, Any]) -> Tier1Config:
    """A node with more settings of its broker and its pipeline."""
    wanted = config(tmp_path, {}).model_dump(exclude_unset=True)
    wanted["broker"] |= broker
    wanted["pipelines"]["meter-0"] |= pipeline
    return Tier1Config.model_validate(wanted)


def test_samples_larger_than_a_packet_are_not_promised(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"pipelines\.meter-0\.max_payload_bytes") as error:
        with_limits(tmp_path, {}, {"max_payload_bytes": 2**22})
    (detail,) = error.value.errors()
    assert "broker.max_packet_bytes" in detail["ctx"]["fix"]


@pytest.mark.parametrize(
    ("broker", "pipeline"),
    [
        ({"max_packet_bytes": 2**23}, {"max_payload_bytes": 2**22}),
        ({"max_packet_bytes": 2**17}, {}),
    ],
    ids=["there is room", "nothing was promised"],
)
def test_either_limit_may_be_set(
    tmp_path: Path, broker: dict[str, Any], pipeline: dict[str, Any]
) -> None:
    with_limits(tmp_path, broker, pipeline)
