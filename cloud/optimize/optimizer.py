"""All candidates of one float32 model: made, measured on this machine, and one of them kept."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud.optimize import machine
from cloud.optimize.case import Case, write_rows
from cloud.optimize.choice import Choice, choose
from cloud.optimize.making import Looked, MakingJob
from cloud.optimize.measuring import MeasuringJob
from cloud.optimize.recipes import RECIPES, SOURCE, Recipe
from cloud.optimize.report import Report
from cloud.optimize.rows import Budget, Figures, Row
from cloud.optimize.workshop import UP, Measure, Say, Workshop, tested_on
from shared.errors import ArtefactError
from shared.inputs import Inputs
from shared.releases.confined_process import ProcessLimits
from shared.releases.structure import check_structure
from shared.scores import ScoreKind

DEFAULT_BUDGET_S = 120.0
MAKING_SHARE = 0.4
MAX_CALIBRATION_ROWS = 512
MAX_TEST_ROWS = 4096


@dataclass(frozen=True)
class Samples:
    """What candidates are calibrated and tested on.

    Attributes:
        calibration: inputs that span what a node will see, [N, *shape].
        test: other inputs, [M, *shape].
        labels: int64 [M], the right answers to ``test``, or a teacher's; -1 where there is none.
            None without any: then the float32 model's own answers stand for them.
    """

    calibration: NDArray[Any]
    test: NDArray[Any]
    labels: NDArray[np.int64] | None = None

    def drawn(self, seed: int) -> Samples:
        """Returns as many of them as are used, drawn at random, in random order."""
        rng = np.random.default_rng(seed)
        taught = rng.permutation(len(self.calibration))[:MAX_CALIBRATION_ROWS]
        tested = rng.permutation(len(self.test))[:MAX_TEST_ROWS]
        labels = None if self.labels is None else self.labels[tested]
        return Samples(self.calibration[taught], self.test[tested], labels)


@dataclass(frozen=True)
class Optimized:
    """What came of it.

    Attributes:
        report: every candidate with its figures, which is kept, and why.
        models: the files of those that load, by name; ``fp32`` is the model itself.
    """

    report: Report
    models: Mapping[str, bytes]

    @property
    def kept(self) -> Row:
        """The candidate that is kept."""
        return self.report.kept_row

    @property
    def model(self) -> bytes:
        """The file of the candidate that is kept."""
        return self.models[self.report.kept]


def optimize(
    model: bytes,
    samples: Samples,
    inputs: Inputs,
    *,
    scores: ScoreKind | None = None,
    budget: Budget | None = None,
    recipes: Sequence[Recipe] = RECIPES,
    budget_s: float = DEFAULT_BUDGET_S,
    seed: int = 0,
    limits: ProcessLimits | None = None,
    say: Say = lambda line: None,
    measure: Measure = Workshop.measure,
) -> Optimized:
    """Makes all candidates of a model, measures each on this machine, and keeps one.

    It starts processes, each confined as the trial of a release is. But for measured times, the
    same arguments give the same result, unless the time was up.

    Args:
        model: a float32 ONNX file; it is looked at before anything runs it.
        samples: what candidates are calibrated and tested on.
        inputs: how a row of them is laid out.
        scores: what the model's output holds; None to find it out.
        budget: what a candidate is held to.
        recipes: how candidates are made, in order.
        budget_s: by when all should be done. What is left by then is not made or not measured.
        seed: decides which samples are taken, where there are more than are used.
        limits: what a child may take, beside the time.
        say: takes a line on the progress.
        measure: measures candidates; to be replaced where figures are to be the same every time.

    Raises:
        ArtefactError: the model must not be loaded, does not load, does not fit the samples, is
            quantized already, or there was not even time to look at it.
        StorageError: the disk is full, or no process can be started.
    """
    began_s = time.monotonic()
    check_structure(model)
    _check(samples, inputs)
    budget, used = budget or Budget(), samples.drawn(seed)
    with tempfile.TemporaryDirectory(prefix="escalon-optimize-") as name:
        workshop = Workshop(Path(name), limits or ProcessLimits(), say)
        asked = _making(workshop.folder, model, used, inputs, recipes)
        asked = msgspec.structs.replace(asked, scores=scores)
        ends_s = began_s + budget_s
        looked, made = workshop.make(asked, began_s + MAKING_SHARE * budget_s, ends_s)
        _check_labels(used, looked.labels)
        job = _measuring(asked, looked, made, used)
        models = {name: path.read_bytes() for name, path in job.candidates.items()}
        choice = _chosen(
            job, _rows(recipes, made, models), budget, lambda job: measure(workshop, job, ends_s)
        )
    report = _report(choice, budget, looked, used, time.monotonic() - began_s)
    loaded = {row.name for row in choice.rows if row.loads or row.is_source}
    return Optimized(report, {name: data for name, data in models.items() if name in loaded})


def _report(choice: Choice, budget: Budget, looked: Looked, used: Samples, took_s: float) -> Report:
    return Report(
        kept=choice.kept.name,
        why=choice.why,
        rows=choice.rows,
        budget=budget,
        machine=machine.describe(),
        labels=looked.labels,
        scores=looked.scores,
        calibrated=len(used.calibration),
        labelled=0 if used.labels is None else int((used.labels >= 0).sum()),
        seconds=round(took_s, 3),
    )


def _chosen(
    job: MeasuringJob,
    rows: Sequence[Row],
    budget: Budget,
    measure: Callable[[MeasuringJob], Mapping[str, Figures | str]],
) -> Choice:
    """Chooses, has what would be kept measured longer, and chooses anew until the choice stands.

    On a busy machine one of many candidates may look faster than it is; it would be the one that
    is kept. Where there is no time left, the figures stay as they are.
    """
    found = measure(job)
    rows = [_filled(row, found.get(row.name)) for row in rows]
    if isinstance(trouble := found[SOURCE.name], str):
        if UP not in trouble:
            raise ArtefactError(f"the float32 model cannot be measured: {trouble}")
        source = next(row for row in rows if row.is_source)
        return Choice(source, tuple(rows), "fp32 is kept: there was no time to measure anything")
    job = msgspec.structs.replace(job, tested=tested_on(found))
    confirmed = {SOURCE.name}
    while (choice := choose(rows, budget)).kept.name not in confirmed:
        name = choice.kept.name
        confirmed.add(name)
        figures = measure(job.confirming(name))[name]
        if isinstance(figures, Figures):
            rows = [_filled(row, figures) if row.name == name else row for row in rows]
    return choice


def _filled(row: Row, found: Figures | str | None) -> Row:
    """Returns a row with what was found out about its candidate, if anything."""
    if isinstance(found, Figures):
        return msgspec.structs.replace(row, figures=found)
    return row if found is None else msgspec.structs.replace(row, reason=found)


def _check(samples: Samples, inputs: Inputs) -> None:
    """Looks whether the samples fit one another and the layout."""
    for name, rows in (("calibration", samples.calibration), ("test", samples.test)):
        if not len(rows):
            raise ArtefactError(f"there is no {name} input")
        if rows.shape[1:] != inputs.shape:
            raise ArtefactError(
                f"the {name} inputs are of shape {list(rows.shape[1:])}, not {list(inputs.shape)}"
            )
    if samples.labels is not None and samples.labels.shape != samples.test.shape[:1]:
        raise ArtefactError(
            f"there are labels of shape {list(samples.labels.shape)} for "
            f"{len(samples.test)} test inputs"
        )


def _check_labels(samples: Samples, count: int) -> None:
    if samples.labels is None:
        return
    if (most := int(samples.labels.max())) >= count:
        raise ArtefactError(
            f"there is a label {most}, and the model gives {count} scores: labels are 0 to "
            f"{count - 1}, -1 where there is none"
        )


def _making(
    folder: Path, model: bytes, used: Samples, inputs: Inputs, recipes: Sequence[Recipe]
) -> MakingJob:
    """Writes the model and the calibration inputs; returns the job for the children."""
    path = folder / "model.onnx"
    path.write_bytes(model)
    rows = write_rows(folder / "calibration.npy", used.calibration)
    return MakingJob(path, inputs.specs, None, rows, tuple(recipes), folder)


def _measuring(
    asked: MakingJob, looked: Looked, made: Mapping[str, Path | str], used: Samples
) -> MeasuringJob:
    """Writes the test inputs and the labels; returns the job for the children."""
    folder = asked.folder
    candidates = {name: path for name, path in made.items() if isinstance(path, Path)}
    labels = None if used.labels is None else write_rows(folder / "labels.npy", used.labels)
    return MeasuringJob(
        case=Case(asked.model, asked.inputs, looked.scores, looked.labels),
        candidates={SOURCE.name: asked.model, **candidates},
        rows=write_rows(folder / "test.npy", used.test),
        labels=labels,
    )


def _rows(
    recipes: Sequence[Recipe], made: Mapping[str, Path | str], models: Mapping[str, bytes]
) -> list[Row]:
    """Returns a row for the float32 model and each recipe, before anything is measured."""
    whole = len(models[SOURCE.name])
    rows = []
    for recipe in (SOURCE, *recipes):
        size, result = len(models.get(recipe.name, b"")), made.get(recipe.name)
        row = Row(
            name=recipe.name,
            precision=recipe.precision,
            bytes=size,
            size=size / whole,
            reason=result if isinstance(result, str) else "",
        )
        rows.append(row)
    return rows
