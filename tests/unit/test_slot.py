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
from shared.releases.health import Health
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
    assert rig.slot.health == Health(batches=3, broken_batches=2)


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
    assert picky.slot.health == Health(batches=1, broken_batches=0)


def test_a_model_that_fails_all_the_time_is_said_ever_more_seldom(
    picky: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        picky.run(rows([7], [8]))
    said = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 7
    assert "version 1 gave no sound scores for 2 samples" in said[0]
    assert "cannot run" in said[0]
