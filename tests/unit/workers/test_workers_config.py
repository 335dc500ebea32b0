"""A node's name and port leave room for its workers'."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shared.workers.config import TierConfig


def config(**keys: Any) -> TierConfig:
    values = {"node": "press-3", "site": "plant-a", "state_dir": "state", **keys}
    context: dict[str, Any] = {"environment": {}}
    return TierConfig.model_validate(values, context=context, strict=False)


def test_a_node_is_one_process_unless_said_otherwise() -> None:
    assert config().workers == 1


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        pytest.param({"workers": 0}, "greater than or equal to 1", id="none"),
        pytest.param({"workers": 65}, "less than or equal to 64", id="too-many"),
        pytest.param({"node": "press.w1"}, "worker of another node", id="name-of-a-worker"),
        pytest.param({"node": "p" * 62, "workers": 2}, "too long", id="long-name"),
        pytest.param({"metrics": {"port": 65_534}, "workers": 3}, "take the ports", id="ports"),
    ],
)
def test_what_leaves_no_room_for_workers_is_refused(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        config(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"node": "p" * 64},
        {"node": "p" * 60, "workers": 64},
        {"metrics": {"port": 65_533}, "workers": 3},
        {"metrics": {"port": 0}, "workers": 64},
    ],
    ids=["long-name-alone", "long-name", "last-port", "any-port"],
)
def test_what_just_fits_is_taken(keys: dict[str, Any]) -> None:
    config(**keys)
