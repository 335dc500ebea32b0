"""What a tier-1 node's configuration comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
