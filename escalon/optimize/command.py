"""``escalon optimize``."""

from __future__ import annotations

import argparse
from typing import TextIO

from cloud.optimize.optimizer import Optimized, optimize
from cloud.optimize.plot import draw, require_matplotlib
from cloud.optimize.report import as_json, as_text
from cloud.optimize.rows import Budget
from escalon.optimize.data import read_samples
from escalon.optimize.progress import Progress
from escalon.usage import UsageError
from shared.durable import write_durably
from shared.errors import ArtefactError
from shared.files import read_file

KEPT, SOURCE_KEPT = 0, 3


def run_optimize(arguments: argparse.Namespace, output: TextIO, errors: TextIO) -> int:
    """Runs ``escalon optimize``.

    Args:
        arguments: of the command line.
        output: the report goes there.
        errors: the progress goes there.

    Returns:
        The exit code.

    Raises:
        UsageError: the command line contradicts itself.
        EscalonError: the model or the samples are refused, or a file cannot be written.
    """
    if arguments.plot:
        if arguments.out is None:
            raise UsageError("--plot needs a folder. Fix: add --out FOLDER")
        require_matplotlib()
    model = read_file(arguments.model)
    samples, inputs = read_samples(arguments.data, arguments.seed)
    budget = Budget(max_points_lost=arguments.max_loss)
    if arguments.allow_dynamic:
        budget = Budget(max_points_lost=arguments.max_loss, max_neighbour_shift=1.0)
    try:
        with Progress(errors) as progress:
            found = optimize(
                model, samples, inputs, scores=arguments.scores, budget=budget,
                budget_s=arguments.seconds, seed=arguments.seed, say=progress.say,
            )  # fmt: skip
    except ArtefactError as error:
        raise ArtefactError(f"{arguments.model}: {error}") from error
    _write(found, arguments)
    report = found.report
    output.write(as_json(report).decode() if arguments.json else as_text(report))
    return SOURCE_KEPT if report.kept_row.is_source else KEPT


def _write(found: Optimized, arguments: argparse.Namespace) -> None:
    if arguments.out is None:
        return
    write_durably(arguments.out / "report.json", as_json(found.report))
    if arguments.plot:
        write_durably(arguments.out / "plot.svg", draw(found.report))
    write_durably(arguments.out / "model.onnx", found.model)
