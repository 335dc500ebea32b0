"""What a model cannot run spoils only itself, and costs few calls; nothing it raises gets on."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.attempts import CALLS_A_HALVING, REST_BATCHES, Attempts
from shared.errors import ArtefactError
from shared.scores import Scored
from tests.builders import load_echo
from tests.onnx_models import rows

BAD = 7.0
PROBABILITIES = np.array([0.8, 0.2], np.float32)


class PickyModel:
    """A model that raises where a batch holds a bad row, or always while it is broken.

    Attributes:
        sizes: of the batches that it was given.
        error: what it raises.
        broken: whether it raises whatever it is given.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.spec = SimpleNamespace(version="1", labels=("a", "b"))
        self.sizes: list[int] = []
        self.error = error or ArtefactError("index out of range")
        self.broken = False

    def infer(self, samples: NDArray[Any]) -> Scored:
        self.sizes.append(len(samples))
        if self.broken or (samples == BAD).any():
            raise self.error
        probabilities = np.tile(PROBABILITIES, (len(samples), 1))
        return Scored.of(probabilities, probabilities[:, 0])

    def take_sizes(self) -> list[int]:
        """Returns the sizes of the batches since it was asked last."""
        sizes, self.sizes = self.sizes, []
        return sizes


def batch(size: int, *bad: int) -> NDArray[np.float32]:
    samples = np.ones((size, 3), np.float32)
    samples[list(bad), 1] = BAD
    return samples


def run(attempts: Attempts, model: Any, samples: NDArray[Any]) -> list[int]:
    """Returns which rows have no scores; looks at those of the others."""
    scored = attempts.run(model, samples).scored
    without = np.isnan(scored.certainty)
    assert scored.probabilities.shape == (len(samples), 2)
    assert np.isnan(scored.probabilities[without]).all()
    assert (scored.probabilities[~without] == PROBABILITIES).all()
    assert scored.broken == without.sum()
    return [int(row) for row in np.flatnonzero(without)]


@given(st.data(), st.integers(1, 300))
def test_up_to_two_bad_rows_spoil_no_other_and_take_a_logarithm_of_calls(
    data: st.DataObject, size: int
) -> None:
    bad = data.draw(st.sets(st.integers(0, size - 1), max_size=2))
    model = PickyModel()
    assert run(Attempts("meter"), model, batch(size, *bad)) == sorted(bad)
    # The batch and the zeros, and then at most so many for each time that it is halved.
    assert len(model.sizes) <= 2 + CALLS_A_HALVING * math.ceil(math.log2(size))


def test_one_bad_row_of_ten_thousand_takes_two_calls_a_halving() -> None:
    model = PickyModel()
    assert run(Attempts("meter"), model, batch(10_000, 5)) == [5]
    assert len(model.sizes) <= 2 + 2 * 14


@given(st.integers(2, 500), st.integers(2, 7))
def test_however_many_rows_are_bad_the_calls_are_few_and_the_bad_have_no_scores(
    size: int, every: int
) -> None:
    model, bad = PickyModel(), range(0, size, every)
    assert set(bad) <= set(run(Attempts("meter"), model, batch(size, *bad)))
    assert len(model.sizes) <= 2 + CALLS_A_HALVING * math.ceil(math.log2(size))


def test_a_model_that_does_not_run_at_all_takes_one_call_a_batch_from_the_second_on() -> None:
    attempts, model = Attempts("meter"), PickyModel()
    model.broken = True
    assert run(attempts, model, batch(32)) == list(range(32))
    assert model.take_sizes() == [32, 1]
    for _ in range(REST_BATCHES):
        assert run(attempts, model, batch(32)) == list(range(32))
    assert model.take_sizes() == [32] * REST_BATCHES


def test_a_model_that_runs_again_is_trusted_at_its_next_sound_batch() -> None:
    attempts, model = Attempts("meter"), PickyModel()
    model.broken = True
    run(attempts, model, batch(32))
    model.broken = False
    assert run(attempts, model, batch(32)) == []
    assert run(attempts, model, batch(32, 9)) == [9]


def test_a_model_that_runs_again_is_found_also_if_every_batch_holds_a_bad_row() -> None:
    attempts, model = Attempts("meter"), PickyModel()
    model.broken = True
    run(attempts, model, batch(32))
    model.broken = False
    for _ in range(REST_BATCHES):
        assert len(run(attempts, model, batch(32, 9))) == 32
    assert run(attempts, model, batch(32, 9)) == [9]


def test_a_bad_row_alone_says_nothing_of_the_model() -> None:
    attempts, model = Attempts("meter"), PickyModel()
    for _ in range(3):
        assert run(attempts, model, batch(1, 0)) == [0]
    assert model.take_sizes() == [1, 1, 1]
    assert run(attempts, model, batch(8, 2)) == [2]


def test_the_next_model_is_not_taken_for_the_one_before() -> None:
    attempts, broken = Attempts("meter"), PickyModel()
    broken.broken = True
    run(attempts, broken, batch(4))
    assert run(attempts, PickyModel(), batch(4, 1)) == [1]


@pytest.mark.parametrize(
    "error", [ArtefactError("odd"), MemoryError(), KeyError("odd"), ZeroDivisionError("odd")]
)
def test_whatever_a_model_raises_becomes_malformed_scores(error: Exception) -> None:
    assert run(Attempts("meter"), PickyModel(error), batch(6, 3)) == [3]
    tried = Attempts("meter").run(PickyModel(error), batch(1, 0))  # type: ignore[arg-type]
    assert tried.problem


def test_what_no_model_should_raise_is_said_once_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts, model = Attempts("meter"), PickyModel(KeyError("odd"))
    for _ in range(5):
        run(attempts, model, batch(6, 3))
    said = [record for record in caplog.records if record.exc_info is not None]
    assert [record.message for record in said] == ["meter: version 1 failed"]
    run(attempts, PickyModel(KeyError("odd")), batch(6, 3))
    assert len([record for record in caplog.records if record.exc_info is not None]) == 2


def test_a_batch_that_runs_takes_one_call_and_names_no_problem(tmp_path: Path) -> None:
    tried = Attempts("meter").run(load_echo(tmp_path), rows([1.0, 0.0, 0.0]))
    assert tried.scored.certainty.tolist() == [1]
    assert tried.problem == ""
    model = PickyModel()
    assert run(Attempts("meter"), model, batch(9)) == []
    assert model.sizes == [9]
