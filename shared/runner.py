"""Runs batches through a pipeline's model: at once, or in a thread where the model is slow."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from shared.attempts import Attempt
from shared.config import InferenceMode
from shared.model import Model
from shared.scores import Scored
from shared.slot import Slot

INLINE_MS = 4.0  # longer than this a batch must not keep the loop from its other work
JOIN_S = 5.0

Batch = TypeVar("Batch")


class Runner(Generic[Batch]):
    """Runs one batch at a time through the model that the slot holds when the batch starts.

    In the thread ONNX Runtime lets go of the interpreter's lock, and the loop reads and answers
    meanwhile. A quick model loses more by the hand-over than it gains.

    Args:
        slot: holds the model, and counts.
        mode: ``auto`` runs in the thread what takes longer than ``INLINE_MS``.
        wake: ends the loop's wait; called from the thread.
    """

    def __init__(self, slot: Slot, mode: InferenceMode, wake: Callable[[], None]) -> None:
        self._slot = slot
        self._mode = mode
        self._wake = wake
        self._running: tuple[Batch, Model] | None = None
        self._given: queue.SimpleQueue[tuple[Model, NDArray[Any]] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Attempt] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def idle(self) -> bool:
        """Whether it may take a batch: none is under way, and none waits to be fetched."""
        return self._running is None

    def start(self, rows: NDArray[Any], batch: Batch) -> None:
        """Runs a batch. Only while it is idle and the slot holds a model.

        Args:
            rows: raw, of the pipeline's dtype, [N, *shape].
            batch: comes back with the scores.

        Raises:
            RuntimeError: a batch is under way, or there is no model.
        """
        model = self._slot.model
        if self._running is not None or model is None:
            raise RuntimeError("start() needs an idle runner and a model")
        self._running = batch, model
        if self._runs_inline(model, len(rows)):
            self._done.put(self._slot.attempt(model, rows))
            return
        if self._thread is None:
            name = f"infer-{self._slot.pipeline}"
            self._thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._thread.start()
        self._given.put((model, rows))

    def finished(self) -> list[tuple[Batch, Model, Scored]]:
        """Returns the batch that is done, with its model and scores; NaN where it gave none."""
        if self._running is None:
            return []
        try:
            tried = self._done.get_nowait()
        except queue.Empty:
            return []
        (batch, model), self._running = self._running, None
        return [(batch, model, self._slot.count(model, tried))]

    def close(self) -> None:
        """Ends the thread, after the batch that it runs."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._given.put(None)
            thread.join(JOIN_S)

    def _runs_inline(self, model: Model, count: int) -> bool:
        if self._mode == "auto":
            return model.expected_ms(count) <= INLINE_MS
        return self._mode == "inline"

    def _work(self) -> None:
        while (work := self._given.get()) is not None:
            model, rows = work
            self._done.put(self._slot.attempt(model, rows))
            self._wake()
