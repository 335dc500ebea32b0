"""A rollout's memory survives a restart, and is never guessed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cloud.rollout.phases import Phase
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.record import RolloutFile, RolloutRecord, published
from cloud.rollout.step import step
from shared.errors import StorageError
from shared.releases.machine import State
from tests.unit.rollout.fleets import begun, fleet

NODES = fleet(3)
NODES.says(State.ROLLED_BACK, 0, reason="p95 latency rose")
PLAN = RolloutPlan()


def lived() -> RolloutRecord:
    record = published(begun(PLAN, NODES), 12, 1000.0)
    return step(record, PLAN, NODES.nodes, 1010.5).record


def test_a_record_is_read_back_whole(tmp_path: Path) -> None:
    file = RolloutFile(tmp_path / "rollouts" / "meter.json")
    record = lived()
    assert record.nodes
    file.write(record)
    assert file.read() == record


def test_where_there_is_no_file_there_is_no_rollout(tmp_path: Path) -> None:
    assert RolloutFile(tmp_path / "meter.json").read() is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"id": "a"}'])
def test_a_broken_file_is_an_error_that_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "meter.json"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="move the file away and begin a new rollout"):
        RolloutFile(path).read()
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read"):
        RolloutFile(tmp_path).read()


def test_saying_published_again_does_not_start_the_clock_anew() -> None:
    once = published(begun(PLAN, NODES), 12, 1000.0)
    assert (once.seq, once.since_s) == (12, 1000.0)
    assert published(once, 12, 2000.0) == once


def test_a_record_of_ten_thousand_nodes_stays_below_three_megabytes() -> None:
    nodes = fleet(10_000)
    nodes.says(State.COMMITTED, *range(10_000))
    nodes.says(State.FAILED_NO_STATE_CHANGE, *range(900), reason="x" * 10_000)
    record = msgspec.structs.replace(published(begun(PLAN, nodes), 1, 0.0), share=1.0)
    record = step(record, PLAN, nodes.nodes, 1.0).record
    assert len(record.nodes) == 10_000
    assert record.phase is Phase.RUNNING
    assert len(msgspec.json.encode(record)) < 3 * 2**20
