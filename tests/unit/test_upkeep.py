"""The store is kept in order beside the loop, a part at a time, and a failure waits."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from cloud.store import TelemetryStore
from cloud.upkeep import EVERY_S, RETRY_S, Upkeep
from shared.errors import StorageError
from shared.metrics import CloudMetrics
from tests.fakes import wait_until


class Store(TelemetryStore):
    """Notes its upkeep, each part of which ends when it is let."""

    def __init__(self, folder: Path, *outcomes: bool | StorageError) -> None:
        super().__init__(f"sqlite:///{folder}/t.sqlite", str(folder / "inputs"))
        self.outcomes = list(outcomes)
        self.turns = 0
        self.may_end = threading.Event()
        self.may_end.set()

    def upkeep(self, now_s: float) -> bool:
        self.turns += 1
        assert self.may_end.wait(30)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, StorageError):
            raise outcome
        return outcome

    def stored_bytes(self) -> int:
        return 7

    @property
    def lost_inputs(self) -> int:
        return 3 * self.turns


def made(store: Store) -> tuple[Upkeep, CloudMetrics]:
    metrics = CloudMetrics(CollectorRegistry())
    return Upkeep(store, metrics), metrics


def poll_until_idle(upkeep: Upkeep, now_s: float) -> None:
    def is_idle() -> bool:
        upkeep.poll(now_s)
        return not upkeep.busy

    wait_until(is_idle, "the part of the upkeep to end")


def test_the_loop_goes_on_meanwhile_and_the_next_part_comes_later(tmp_path: Path) -> None:
    store = Store(tmp_path, False, False)
    upkeep, metrics = made(store)
    store.may_end.clear()
    upkeep.poll(0.0)
    assert upkeep.busy
    upkeep.poll(1.0)  # it waits for nothing
    store.may_end.set()
    poll_until_idle(upkeep, 2.0)
    assert metrics.registry.get_sample_value("edge_store_bytes") == 7
    lost = {"reason": "lost_input"}
    assert metrics.registry.get_sample_value("edge_drops_total", lost) == 3
    upkeep.poll(2.0 + EVERY_S / 2)
    assert store.turns == 1
    upkeep.poll(2.0 + EVERY_S)
    upkeep.close()
    assert store.turns == 2


def test_while_there_is_more_to_do_the_next_part_comes_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path, True, True, False)
    upkeep, _ = made(store)

    def has_no_more() -> bool:
        upkeep.poll(0.0)
        return not store.outcomes

    wait_until(has_no_more, "all parts")
    upkeep.close()
    assert store.turns == 3


def test_a_failure_is_said_and_tried_again_after_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path, StorageError("disk full"), False)
    upkeep, _ = made(store)
    upkeep.poll(0.0)
    poll_until_idle(upkeep, 0.0)
    assert "the store's upkeep waits: disk full" in caplog.text
    upkeep.poll(RETRY_S / 2)
    assert store.turns == 1
    upkeep.poll(RETRY_S)
    upkeep.close()
    assert store.turns == 2
