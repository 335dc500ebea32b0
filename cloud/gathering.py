"""Gathers what a training learns from: out of the store, into the job's folder, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud.selection import Selection, select
from cloud.store import Outline, TelemetryStore
from cloud.training.arrays import Streamed, write_npz
from shared.errors import StorageError
from shared.scores import Floats

PAGE = 20_000
MAX_OUTLINED = 1_000_000
"""Older samples are not looked at; an outline of so many takes some hundred MB at most."""
MAX_SAMPLES = 50_000
SLICE_BYTES = 16 * 2**20
"""So much of the inputs is in memory together."""


@dataclass(frozen=True)
class Wanted:
    """What is gathered.

    Attributes:
        pipeline: the pipeline.
        since_s: what came since then, seconds since 1970.
        tier2_version: what this version of tier-2 answered alone: others answer otherwise.
        shape: of one input.
        labels: how many there are.
        most_bytes: of all of it.
        seed: draws what is left out where that is too much.
    """

    pipeline: str
    since_s: float
    tier2_version: str
    shape: tuple[int, ...]
    labels: int
    most_bytes: int
    seed: int

    @property
    def input_bytes(self) -> int:
        """What one input takes."""
        return 4 * int(np.prod(self.shape))

    @property
    def most_samples(self) -> int:
        """About so many are gathered at most."""
        return min(MAX_SAMPLES, self.most_bytes // (self.input_bytes + 4 * self.labels + 64))


class Gathering:
    """Writes telemetry into a file. The store answers others meanwhile.

    Args:
        store: the telemetry.
        wanted: what is gathered.
        path: of the file, which is there whole or not at all.
    """

    def __init__(self, store: TelemetryStore, wanted: Wanted, path: Path) -> None:
        self._store = store
        self._wanted = wanted
        self._path = path
        self._thread = ThreadPoolExecutor(1, "gathering")
        self._stops = threading.Event()
        self._under_way: Future[Selection] | None = None

    def start(self) -> None:
        """Begins."""
        self._under_way = self._thread.submit(self._gather)

    def poll(self) -> Selection | None:
        """Returns what was gathered once the file is there; None until then.

        Raises:
            StorageError: the store does not answer, too little can certify, or the disk is full.
        """
        if self._under_way is None or not self._under_way.done():
            return None
        self._thread.shutdown()
        return self._under_way.result()

    def stop(self) -> None:
        """Ends it; waits for the slice that is under way."""
        self._stops.set()
        self._thread.shutdown()

    def _gather(self) -> Selection:
        wanted = self._wanted
        selection = select(self._outline(), wanted.most_samples, np.random.default_rng(wanted.seed))
        selection = self._fitting(selection)
        selection.check()
        self._write(selection)
        return selection

    def _outline(self) -> Outline:
        """Returns the outline of the newest samples, oldest first."""
        pages: list[Outline] = []
        wanted, before, count = self._wanted, None, 0
        while count < MAX_OUTLINED:
            page = self._store.outline(
                wanted.pipeline,
                since_s=wanted.since_s,
                before=before,
                limit=PAGE,
                tier2_version=wanted.tier2_version,
            )
            pages.append(page)
            count += len(page)
            if len(page) < PAGE:
                break
            before = int(page.number[-1])
            self._go_on()
        return Outline.oldest_first(pages)

    def _fitting(self, selection: Selection) -> Selection:
        """Leaves out inputs of another shape."""
        parts = [
            self._store.fit(part, self._wanted.shape) for part in self._slices(selection.number)
        ]
        return selection.fitting(np.concatenate([np.empty(0, bool), *parts]))

    def _write(self, selection: Selection) -> None:
        wanted, store, number = self._wanted, self._store, selection.number
        labels: list[NDArray[np.int64]] = []

        def answers() -> Iterator[Floats]:
            for part in self._slices(number):
                found = store.samples(wanted.pipeline, part)
                if len(found) < len(part):
                    raise StorageError("samples left the store while they were gathered")
                labels.append(found.label)
                yield found.tier2

        def inputs() -> Iterator[Floats]:
            for part in self._slices(number):
                yield store.inputs(part, wanted.shape)

        count = len(number)
        write_npz(
            self._path,
            {
                "tier2": Streamed((count, wanted.labels), np.float32, answers()),
                "y": Streamed((count,), np.int64, (part for part in labels)),
                "x": Streamed((count, *wanted.shape), np.float32, inputs()),
                "audit": selection.audit,
                "inclusion_probability": selection.chance,
                "asked": np.isin(number, store.asked_for(wanted.pipeline)),
                "certifies": selection.certifies,
            },
        )

    def _slices(self, numbers: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Yields numbers in parts of which all inputs fit in memory."""
        row_bytes = max(self._wanted.input_bytes, 4 * self._wanted.labels)
        size = min(PAGE, max(1, SLICE_BYTES // row_bytes))
        for start in range(0, len(numbers), size):
            self._go_on()
            yield numbers[start : start + size]

    def _go_on(self) -> None:
        if self._stops.is_set():
            raise StorageError("the cloud ends while samples are gathered")
