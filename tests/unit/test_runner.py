"""A batch runs at once or in a thread, one at a time, by the model that was there at its start."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from shared.config import InferenceMode
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.runner import INLINE_MS, Runner
from shared.scores import Scored
from shared.slot import Slot
from tests.builders import load_echo
from tests.fakes import WAIT_S
from tests.onnx_models import rows

SURE, OTHER = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
Finished = list[tuple[str, Model, Scored]]


class GatedModel:
    """A model that waits at each batch until it is let go.

    Attributes:
        began: a batch is in it.
        go: lets the batch end.
        threads: names of those that ran it.
    """

    def __init__(self, model: Model) -> None:
        self.spec = model.spec
        self.batch_ms = INLINE_MS + 1
        self.batch_size = 2
        self.began, self.go = threading.Event(), threading.Event()
        self.threads: list[str] = []
        self._model = model

    def expected_ms(self, count: int) -> float:
        return self.batch_ms * max(1.0, count / self.batch_size)

    def infer(self, samples: NDArray[Any]) -> Scored:
        self.threads.append(threading.current_thread().name)
        self.began.set()
        assert self.go.wait(WAIT_S)
        return self._model.infer(samples)


class Rig:
    """A runner with its slot, and a wake that can be waited for."""

    def __init__(self, model: Model, mode: InferenceMode) -> None:
        self.slot = Slot("meter", NodeMetrics(CollectorRegistry()))
        self.slot.put(model)
        self.woken = threading.Event()
        self.runner: Runner[str] = Runner(self.slot, mode, self.woken.set)

    def result(self) -> Finished:
        """Waits for the thread's wake, and fetches."""
        assert self.woken.wait(WAIT_S)
        self.woken.clear()
        return self.runner.finished()


@pytest.fixture
def echo(tmp_path: Path) -> Model:
    return load_echo(tmp_path)


@pytest.fixture
def gated(echo: Model) -> Iterator[Any]:
    model = GatedModel(echo)
    yield model
    model.go.set()


@pytest.fixture
def threaded(gated: Any) -> Iterator[Rig]:
    rig = Rig(gated, "thread")
    yield rig
    gated.go.set()
    rig.runner.close()


def test_inline_a_batch_is_done_when_it_was_started(echo: Model) -> None:
    rig = Rig(echo, "inline")
    rig.runner.start(rows(SURE, OTHER), "batch")
    ((batch, model, scored),) = rig.runner.finished()
    assert (batch, model) == ("batch", echo)
    assert scored.probabilities.argmax(axis=1).tolist() == [0, 1]
    assert not rig.woken.is_set()


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_it_is_idle_but_between_start_and_fetching(echo: Model, mode: InferenceMode) -> None:
    rig = Rig(echo, mode)
    assert rig.runner.idle
    rig.runner.start(rows(SURE), "batch")
    assert not rig.runner.idle
    assert len(rig.result() if mode == "thread" else rig.runner.finished()) == 1
    assert rig.runner.idle
    assert rig.runner.finished() == []
    rig.runner.close()


def test_the_loop_goes_on_while_the_thread_runs_a_batch(threaded: Rig, gated: Any) -> None:
    threaded.runner.start(rows(SURE), "batch")
    assert gated.began.wait(WAIT_S)
    assert threaded.runner.finished() == []
    assert not threaded.runner.idle
    gated.go.set()
    ((batch, _, scored),) = threaded.result()
    assert batch == "batch"
    assert scored.certainty.tolist() == [1]
    assert gated.threads == ["infer-meter"]


def test_one_thread_runs_all_batches_in_order(threaded: Rig, gated: Any) -> None:
    gated.go.set()
    for number in range(20):
        threaded.runner.start(rows(SURE), str(number))
        ((batch, _, _),) = threaded.result()
        assert batch == str(number)
    assert set(gated.threads) == {"infer-meter"}
    assert [each.name for each in threading.enumerate()].count("infer-meter") == 1


def test_a_model_that_is_swapped_while_a_batch_runs_does_not_answer_it(
    threaded: Rig, gated: Any, echo: Model
) -> None:
    threaded.runner.start(rows(SURE), "old")
    assert gated.began.wait(WAIT_S)
    threaded.slot.put(echo)
    gated.go.set()
    assert threaded.result()[0][1] is gated
    threaded.runner.start(rows(SURE), "new")
    assert threaded.result()[0][1] is echo


def test_a_batch_is_counted_when_it_is_fetched(threaded: Rig, gated: Any) -> None:
    gated.go.set()
    threaded.runner.start(rows(SURE), "batch")
    assert threaded.woken.wait(WAIT_S)
    assert threaded.slot.health.batches == 0
    threaded.result()
    assert threaded.slot.health.batches == 1


@pytest.mark.parametrize(
    ("batch_ms", "threads"),
    [(INLINE_MS, 0), (INLINE_MS + 0.1, 1)],
    ids=["a-quick-one-inline", "a-slow-one-in-the-thread"],
)
def test_auto_goes_by_the_time_of_a_full_batch(gated: Any, batch_ms: float, threads: int) -> None:
    gated.go.set()
    gated.batch_ms = batch_ms
    rig = Rig(gated, "auto")
    rig.runner.start(rows(SURE), "batch")
    if threads:
        rig.result()
    assert gated.threads.count("infer-meter") == threads
    rig.runner.close()


def test_auto_runs_in_the_thread_what_is_many_quick_batches(gated: Any) -> None:
    gated.go.set()
    gated.batch_ms = INLINE_MS
    rig = Rig(gated, "auto")
    rig.runner.start(rows(*[SURE] * 3), "a pack larger than a batch")
    rig.result()
    assert gated.threads == ["infer-meter"]
    rig.runner.close()


class FailingModel:
    """A model that raises what no model should."""

    def __init__(self, model: Model) -> None:
        self.spec = model.spec
        self.fails = True
        self._model = model

    def infer(self, samples: NDArray[Any]) -> Scored:
        if self.fails:
            raise ZeroDivisionError("a bug")
        return self._model.infer(samples)


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_whatever_fails_becomes_malformed_scores_and_the_runner_lives_on(
    echo: Model, caplog: pytest.LogCaptureFixture, mode: InferenceMode
) -> None:
    model: Any = FailingModel(echo)
    rig = Rig(model, mode)

    def run(samples: NDArray[Any]) -> Scored:
        rig.runner.start(samples, "batch")
        ((_, _, scored),) = rig.result() if mode == "thread" else rig.runner.finished()
        return scored

    scored = run(rows(SURE, OTHER))
    assert np.isnan(scored.certainty).tolist() == [True, True]
    assert scored.probabilities.shape == (2, 3)
    assert rig.slot.health.broken_batches == 1
    assert "Traceback" in caplog.text
    assert "a bug" in caplog.text
    model.fails = False
    assert run(rows(SURE)).certainty.tolist() == [1]
    rig.runner.close()


def test_closing_waits_for_the_batch_that_runs_and_it_can_still_be_fetched(
    threaded: Rig, gated: Any
) -> None:
    threaded.runner.start(rows(SURE), "batch")
    assert gated.began.wait(WAIT_S)
    gated.go.set()
    threaded.runner.close()
    assert [each.name for each in threading.enumerate()].count("infer-meter") == 0
    assert threaded.runner.finished()[0][0] == "batch"


def test_closing_twice_or_before_any_batch_does_nothing(echo: Model) -> None:
    rig = Rig(echo, "thread")
    rig.runner.close()
    rig.runner.close()


def test_a_second_batch_before_the_first_is_fetched_is_refused(echo: Model) -> None:
    rig = Rig(echo, "inline")
    rig.runner.start(rows(SURE), "first")
    with pytest.raises(RuntimeError, match="idle"):
        rig.runner.start(rows(SURE), "second")
    assert rig.runner.finished()[0][0] == "first"


def test_a_batch_without_a_model_is_refused(echo: Model) -> None:
    rig = Rig(echo, "inline")
    rig.slot.put(None)
    with pytest.raises(RuntimeError, match="model"):
        rig.runner.start(rows(SURE), "batch")
    assert rig.runner.idle
