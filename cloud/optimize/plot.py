"""Draws the candidates in rows: times, size and right answers side by side."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cloud.optimize.choice import refusal
from cloud.optimize.report import Report
from cloud.optimize.rows import Figures, Row
from shared.errors import EscalonError

COLOURS = {"source": "#666666", "refused": "#bbbbbb", "fits": "#4477aa", "kept": "#cc3311"}


def require_matplotlib() -> None:
    """Looks whether it can draw.

    Raises:
        EscalonError: matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise EscalonError("the plot needs its extra: pip install 'escalon[plots]'") from error


def draw(report: Report) -> bytes:
    """Returns an SVG: a row for each candidate that loads, a column for each figure.

    Raises:
        EscalonError: matplotlib is not installed.
    """
    require_matplotlib()
    # An extra of its own, and half a second to load.
    matplotlib = importlib.import_module("matplotlib")
    figures = importlib.import_module("matplotlib.figure")
    rows = [row for row in report.rows if row.loads][::-1]
    with matplotlib.rc_context({"svg.hashsalt": "escalon", "svg.fonttype": "none"}):
        figure = figures.Figure(figsize=(12, 1.5 + 0.28 * len(rows)), layout="constrained")
        columns = figure.subplots(1, len(COLUMNS), sharey=True)
        for axes, (label, figure_of) in zip(columns, COLUMNS.items(), strict=True):
            _column(axes, report, rows, figure_of)
            axes.set_xlabel(label)
        figure.suptitle(f"{report.kept} is kept: {report.machine.cpu}, one thread")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _right(found: Figures) -> float:
    return 100 * (found.agreement if found.accuracy is None else found.accuracy)


COLUMNS: Mapping[str, Callable[[Row, Figures], float]] = {
    "one sample, ms": lambda _, found: found.latency_1_ms,
    "a batch of 32, ms": lambda _, found: found.latency_32_ms,
    "kB": lambda row, _: row.bytes / 1000,
    "right answers (without labels: as fp32), %": lambda _, found: _right(found),
}


def _column(
    axes: Any, report: Report, rows: Sequence[Row], figure_of: Callable[[Row, Figures], float]
) -> None:
    """Draws one figure of all candidates, and a line where the float32 model has it."""
    for place, row in enumerate(rows):
        if row.figures is not None:
            value = figure_of(row, row.figures)
            axes.plot(value, place, "o", color=COLOURS[_colour(report, row)])
            if row.is_source:
                axes.axvline(value, color=COLOURS["source"], linewidth=1, zorder=0)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.grid(alpha=0.3)


def _colour(report: Report, row: Row) -> str:
    if row.name == report.kept:
        return "kept"
    if row.is_source:
        return "source"
    return "refused" if refusal(row, report.budget) else "fits"
