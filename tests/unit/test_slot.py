"""The slot counts what its model does, and a sample that breaks a batch breaks only itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper
from prometheus_client import CollectorRegistry

from shared.inputs import Inputs
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.releases.health import Health, by_size
from shared.scores import Scored
from shared.slot import Slot
from tests.builders import load_echo
from tests.onnx_models import FLOAT, INT64, load, onnx_file, rows

SURE, BROKEN = [1.0, 0.0, 0.0], [2.0, 2.0, 2.0]


class Rig:
    """A slot with what it counts."""

    def __init__(self, model: Model) -> None:
        self.registry = CollectorRegistry()
        self.slot = Slot("meter", NodeMetrics(self.registry))
        self.model = model
        self.slot.put(model)

    def run(self, samples: NDArray[Any], model: Model | None = None) -> Scored:
        """Runs a batch and counts it."""
        model = model or self.model
        return self.slot.count(model, self.slot.attempt(model, samples))

    def counted(self, status: str, version: str = "1") -> float:
        labels = {"model_version": version, "status": status}
        return self.registry.get_sample_value("edge_inference_total", labels) or 0.0


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(load_echo(tmp_path))


@pytest.fixture
def picky(tmp_path: Path) -> Rig:
    """A model that cannot run where a sample is not one of its three indices."""
    data = onnx_file(
        [
            helper.make_node("Gather", ["table", "x"], ["picked"], axis=0),
            helper.make_node("Squeeze", ["picked", "one"], ["y"]),
        ],
        [("x", INT64, ["N", 1])],
        [("y", FLOAT, ["N", 3])],
        {"table": np.eye(3, dtype=np.float32), "one": np.array([1])},
    )
    return Rig(load(tmp_path, data, Inputs.plain((1,)), scores="probabilities"))


def test_it_counts_sound_and_malformed_samples(rig: Rig) -> None:
    scored = rig.run(rows(SURE, BROKEN, SURE))
    assert np.isnan(scored.certainty).tolist() == [False, True, False]
    assert (rig.counted("ok"), rig.counted("invalid_scores")) == (2, 1)


def test_its_health_is_in_batches(rig: Rig) -> None:
    for batch in ([SURE], [SURE, BROKEN], [BROKEN]):
        rig.run(rows(*batch))
    health = rig.slot.health
    assert (health.batches, health.broken_batches) == (3, 2)


def test_samples_are_counted_for_the_version_that_ran_them(rig: Rig, tmp_path: Path) -> None:
    new = load_echo(tmp_path, version="2")
    rig.run(rows(SURE))
    rig.slot.put(new)
    rig.run(rows(SURE, SURE), new)
    rig.run(rows(SURE))
    assert (rig.counted("ok", "1"), rig.counted("ok", "2")) == (2, 2)


def test_a_sample_that_the_model_cannot_take_spoils_none_of_its_batch(picky: Rig) -> None:
    scored = picky.run(rows([0], [7], [2]))
    assert scored.probabilities[[0, 2]].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert np.isnan(scored.certainty).tolist() == [False, True, False]
    assert (picky.counted("ok"), picky.counted("invalid_scores")) == (2, 1)


def test_an_empty_batch_breaks_nothing(picky: Rig) -> None:
    scored = picky.run(np.zeros((0, 1), np.float32))
    assert scored.probabilities.shape == (0, 3)
    health = picky.slot.health
    assert (health.batches, health.broken_batches, health.samples) == (1, 0, 0)


def test_a_model_that_fails_all_the_time_is_said_ever_more_seldom(
    picky: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        picky.run(rows([7], [8]))
    said = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 7
    assert "version 1 gave no sound scores for 2 samples" in said[0]
    assert "cannot run" in said[0]


def test_its_health_tells_samples_from_batches_and_failures_from_malformed_scores(
    rig: Rig, picky: Rig
) -> None:
    rig.run(rows(SURE, BROKEN, BROKEN))
    health = rig.slot.health
    assert (health.samples, health.invalid_samples, health.failed_batches) == (3, 2, 0)
    picky.run(rows([0], [7], [2]))
    health = picky.slot.health
    assert (health.samples, health.invalid_samples, health.failed_batches) == (3, 1, 1)


def test_the_time_of_a_batch_is_counted_by_its_size(rig: Rig) -> None:
    for batch in ([SURE], [SURE, SURE, SURE], [SURE, SURE]):
        rig.run(rows(*batch))
    times = by_size(rig.slot.health.run_times)
    assert {size: sum(counts.values()) for size, counts in times.items()} == {1: 1, 2: 2}


def test_a_batch_that_the_model_before_was_still_running_is_not_the_new_ones(
    rig: Rig, tmp_path: Path
) -> None:
    old, new = rig.model, load_echo(tmp_path, version="2")
    tried = rig.slot.attempt(old, rows(BROKEN))
    before = rig.slot.health
    rig.slot.put(new)
    rig.slot.count(old, tried)
    rig.slot.count_gate(old, 1, 1)
    rig.slot.count_asked(old.spec, 1)
    rig.slot.count_lost(old.spec)
    assert rig.slot.health.since(before) == Health()
    rig.run(rows(SURE), new)
    rig.slot.count_gate(new, 1, 1)
    rig.slot.count_asked(new.spec, 1)
    rig.slot.count_lost(new.spec)
    seen = rig.slot.health.since(before)
    assert (seen.batches, seen.broken_batches, seen.gated_samples) == (1, 0, 1)
    assert (seen.unsure_samples, seen.asked, seen.lost) == (1, 1, 1)


def test_a_batch_is_under_way_until_it_is_counted(rig: Rig) -> None:
    tried = rig.slot.attempt(rig.model, rows(SURE))
    assert rig.slot.health.under_way == 1
    rig.slot.count(rig.model, tried)
    assert rig.slot.health.under_way == 0


def test_an_emptied_slot_counts_no_questions(rig: Rig) -> None:
    rig.slot.put(None)
    rig.slot.count_asked(rig.model.spec, 1)
    rig.slot.count_lost(rig.model.spec)
    assert rig.slot.health == Health()
