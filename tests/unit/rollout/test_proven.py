"""A rollback brings back what was proven last, and never what was found to be bad."""

from __future__ import annotations

import msgspec
import pytest

from cloud.rollout.phases import Phase
from cloud.rollout.proven import proven
from cloud.rollout.record import RolloutRecord

BLANK = RolloutRecord(id="r", channel="c", salt="s", share=1.0, canaries=())
Past = tuple[str, Phase, str]


def past(*rollouts: Past) -> list[RolloutRecord]:
    """Returns rollouts of (version, phase, base)."""
    return [
        msgspec.structs.replace(BLANK, version=version, phase=phase, base=base)
        for version, phase, base in rollouts
    ]


DONE, BAD, BACK = Phase.COMPLETED, Phase.ABORTED, Phase.ROLLED_BACK
RUNS, GONE, HALT = Phase.RUNNING, Phase.SUPERSEDED, Phase.HALTED


@pytest.mark.parametrize(
    ("newest_first", "version", "base"),
    [
        pytest.param([], "1", "", id="the-first"),
        pytest.param([("1", DONE, "")], "2", "1", id="after-a-completed-one"),
        pytest.param([("1", RUNS, "")], "2", "", id="nothing-is-proven-yet"),
        pytest.param([("2", RUNS, "1"), ("1", DONE, "")], "3", "1", id="one-that-runs"),
        pytest.param([("2", BAD, "1"), ("1", DONE, "")], "3", "1", id="after-an-abort"),
        pytest.param([("2", BACK, "1"), ("1", DONE, "")], "3", "1", id="after-a-rollback"),
        pytest.param([("2", BAD, "1"), ("1", DONE, "")], "1", "", id="the-base-itself"),
        pytest.param(
            [("3", BAD, "2"), ("2", DONE, "1"), ("1", DONE, "")], "2", "1", id="the-base-of-three"
        ),
        pytest.param([("2", DONE, "1"), ("1", DONE, "")], "2", "1", id="what-stands-itself"),
        pytest.param([("2", DONE, "1"), ("1", DONE, "")], "1", "2", id="the-one-before-it"),
        pytest.param([("2", HALT, "1"), ("1", DONE, "")], "2", "1", id="tried-again"),
        pytest.param(
            [("2", BAD, "1"), ("2", DONE, "1"), ("1", DONE, "")], "3", "1", id="bad-in-the-end"
        ),
        pytest.param(
            [("2", DONE, "1"), ("2", BAD, "1"), ("1", DONE, "")], "3", "2", id="good-in-the-end"
        ),
        pytest.param(
            [("1", GONE, "2"), ("2", DONE, "1"), ("1", DONE, "")], "3", "2", id="superseded"
        ),
        pytest.param([("4", BAD, "3")], "5", "3", id="the-archive-is-lost"),
        pytest.param([("3", BAD, "2"), ("2", BACK, "1")], "2", "1", id="its-own-record-is-lost"),
        pytest.param(
            [("1", BACK, ""), ("2", BAD, "1"), ("1", DONE, "")], "3", "", id="all-are-bad"
        ),
    ],
)
def test_the_base_of_a_new_rollout(newest_first: list[Past], version: str, base: str) -> None:
    assert proven(past(*newest_first), version) == base
