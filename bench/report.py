"""The result as a table for people, as JSON for programs, as Markdown for the documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from bench.errors import BenchError
from bench.rows import Row
from bench.scenario import Figure
from shared.durable import write_durably

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
SIGNS = {">=": "≥", "<=": "≤", "==": "="}
SPREAD = "value: median of the pairs of interleaved runs; low and high: the smallest, the largest"


class Report(msgspec.Struct, frozen=True):
    """What a run of the benchmarks found.

    Attributes:
        machine: what the figures depend on.
        rows: what is aimed at.
        figures: absolute figures.
    """

    machine: dict[str, str]
    rows: list[Row]
    figures: list[Figure]

    @property
    def all_ok(self) -> bool:
        """Whether every row holds against its target."""
        return all(row.ok for row in self.rows)


def number(value: float | None) -> str:
    """Returns a number with three digits that count, or a dash where there is none."""
    if value is None:
        return "-"
    if value == int(value) and abs(value) < 100_000:
        return str(int(value))
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def as_text(report: Report) -> str:
    """Returns the tables for a terminal."""
    parts = [machine_line(report.machine), "", *_columns(_figure_cells(report.figures)), ""]
    parts += [*_columns(_row_cells(report.rows)), SPREAD]
    parts += [f"{row.key}: {row.note}" for row in report.rows if row.note]
    return "\n".join(parts) + "\n"


def as_json(report: Report) -> bytes:
    """Returns one object: every row under its key, ``machine`` and ``figures`` beside them."""
    rows: dict[str, Any] = {row.key: row for row in report.rows}
    everything = rows | {"machine": report.machine, "figures": report.figures}
    return msgspec.json.format(msgspec.json.encode(everything)) + b"\n"


def as_markdown(report: Report) -> str:
    """Returns the tables for a document."""
    rows, figures = _row_cells(report.rows), _figure_cells(report.figures)
    notes = [f"- `{row.key}`: {row.note}" for row in report.rows if row.note]
    parts = [
        machine_line(report.machine) + ".",
        "\n".join(_markdown_table(rows)),
        SPREAD.capitalize() + ".",
        *(["\n".join(notes)] if notes else []),
        "Absolute figures, medians of the runs:",
        "\n".join(_markdown_table(figures)),
    ]
    return "\n\n".join(parts) + "\n"


def machine_line(machine: Mapping[str, str]) -> str:
    """Returns the machine in a line."""
    named = {"cpu", "cpus", "system", "python", "broker", "load_average"}
    packages = [f"{name} {version}" for name, version in machine.items() if name not in named]
    return ", ".join(
        [
            f"{machine['cpus']} CPUs {machine['cpu']}",
            machine["system"],
            f"Python {machine['python']}",
            machine["broker"],
            *packages,
            f"load average {machine['load_average']} at the start",
        ]
    )


def write_json(path: Path, report: Report) -> None:
    """Writes the JSON.

    Raises:
        StorageError: the file cannot be written.
    """
    write_durably(path, as_json(report))


def write_markdown(path: Path, report: Report) -> None:
    """Writes the Markdown tables: between the marks of a document that has them, or as a new file.

    Raises:
        BenchError: the file is there and has no marks.
        StorageError: the file cannot be written.
    """
    tables = f"{BEGIN}\n{as_markdown(report)}{END}\n"
    if path.exists():
        before, mark, rest = path.read_text().partition(BEGIN)
        _, end_mark, after = rest.partition(END)
        if not mark or not end_mark:
            raise BenchError(f"{path} has no lines {BEGIN} and {END} to write between")
        tables = before + tables.rstrip("\n") + after
    write_durably(path, tables.encode())


def _row_cells(rows: Iterable[Row]) -> list[list[str]]:
    cells = [["", "key", "value", "low", "high", "target", "unit", "what"]]
    for row in rows:
        target = f"{SIGNS[row.comparator]} {number(row.target)}"
        found = [number(row.value), number(row.low), number(row.high)]
        cells.append(["✓" if row.ok else "✗", row.key, *found, target, row.unit, row.what])
    return cells


def _figure_cells(figures: Sequence[Figure]) -> list[list[str]]:
    cells = [["scenario", "contestant", "figures"]]
    for scenario, group in groupby(figures, lambda figure: figure.scenario):
        for place, figure in enumerate(group):
            values = ", ".join(f"{number(value)} {name}" for name, value in figure.values.items())
            cells.append(["" if place else scenario, figure.contestant, values])
    return cells


def _columns(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _markdown_table(cells: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(line)} |" for line in cells]
    return [lines[0], "|" + " --- |" * len(cells[0]), *lines[1:]]
