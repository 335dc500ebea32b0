"""The table of thresholds as a picture, by matplotlib: the extra ``plots``."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cloud.certificate.estimate import Estimate
from escalon.what_if.report import Report
from shared.durable import write_durably
from shared.errors import EscalonError

FORMATS = (".svg", ".png", ".pdf")
PANEL_INCHES = (4.6, 4.2)
DOTS_PER_INCH = 120
SALT = "escalon"  # ids in an SVG are drawn from it: the same table is the same file
BLUE, RED, GREEN, GREY = "#1f6fb4", "#c0392b", "#2e8b57", "#888888"


class PictureError(EscalonError):
    """It cannot be drawn."""


def check_picture(path: Path) -> None:
    """Refuses what could not be drawn, before anything is computed.

    Raises:
        PictureError: matplotlib is not installed, or the file's name says no format.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise PictureError("--plot needs matplotlib. Fix: pip install 'escalon[plots]'")
    if path.suffix.lower() not in FORMATS:
        raise PictureError(f"{path}: how shall it be drawn? Fix: name it {', '.join(FORMATS)}")


def draw(report: Report, path: Path) -> None:
    """Writes the picture: risk over coverage, accuracy, bytes and, if known, latency.

    Args:
        report: what was found.
        path: as ``check_picture`` takes it.

    Raises:
        StorageError: it cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and it takes half a second
    from matplotlib.figure import Figure  # noqa: PLC0415

    panels = [_risk, _accuracy, _bytes]
    if report.what_if.rows[0].latency is not None:
        panels.append(_latency)
    width, height = PANEL_INCHES
    with mpl.rc_context({"svg.hashsalt": SALT, "font.size": 9, "axes.grid": True,
                         "grid.alpha": 0.3}):  # fmt: skip
        figure = Figure(figsize=(width * len(panels), height), layout="constrained")
        figure.suptitle(
            f"{report.pipeline}: {report.tier1_version} beside {report.tier2_version}, "
            f"{report.what_if.samples:,} samples sent"
        )
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, each in zip(panels, axes, strict=True):
            panel(each, report)
        kind, data = path.suffix[1:].lower(), io.BytesIO()
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        figure.savefig(data, format=kind, dpi=DOTS_PER_INCH, metadata=undated)
    write_durably(path, data.getvalue())


def _risk(axes: Any, report: Report) -> None:
    """Draws the risk-coverage curve of each version, and the table's intervals."""
    found = report.what_if
    for each in report.versions[:-1]:
        label = f"{each.version}, AUGRC {each.augrc:.4f}"
        axes.plot(100 * each.curve.coverage, 100 * each.curve.risk, color=GREY, lw=0.8, label=label)
    current = report.versions[-1]
    label = f"{current.version}, AUGRC {current.augrc:.4f}"
    axes.plot(
        100 * current.curve.coverage, 100 * current.curve.risk, color=BLUE, lw=1.2, label=label
    )
    rows = [row for row in found.rows if row.risk.n]
    for certified, colour in ((False, GREY), (True, GREEN)):
        some = [row for row in rows if (row.certificate is not None) is certified]
        _points(axes, [100 * row.coverage.value for row in some], [row.risk for row in some],
                colour, "certified" if certified else "not certified")  # fmt: skip
    for row in rows:
        if row.runs:
            axes.plot(100 * row.coverage.value, 100 * row.risk.value, "*", color=RED, ms=12,
                      zorder=5, label="runs")  # fmt: skip
    axes.axhline(100 * found.promise.alpha, color=RED, lw=0.8, ls="--", label="promised")
    axes.set(xlabel="coverage, %", ylabel="P(tier-2 disagrees | accepted), %", title="Risk")
    axes.set_ylim(0, 100 * max(2 * found.promise.alpha, *(row.risk.upper for row in rows)))
    axes.legend(fontsize=7)


def _accuracy(axes: Any, report: Report) -> None:
    rows = report.what_if.rows
    escalated = [100 * row.escalated for row in rows]
    axes.plot(escalated, [100 * row.accuracy.value for row in rows], color=BLUE, lw=0.8)
    _points(axes, escalated, [row.accuracy for row in rows], BLUE, "")
    labelled = report.what_if.labelled
    axes.set(xlabel="escalated, %", ylabel="right final answers, %",
             title=f"Accuracy ({labelled:,} labels, else tier-2)")  # fmt: skip


def _bytes(axes: Any, report: Report) -> None:
    rows, found = report.what_if.rows, report.what_if
    escalated = [100 * row.escalated for row in rows]
    down, up = [row.tier2_bytes for row in rows], [row.uplink_bytes for row in rows]
    axes.plot(escalated, down, "o-", color=BLUE, ms=3, label="to tier-2")
    axes.plot(escalated, up, "s-", color=GREEN, ms=3, label="to the cloud")
    axes.axhline(found.all_bytes, color=RED, lw=0.8, ls="--", label="all to tier-2")
    axes.set(xlabel="escalated, %", ylabel="bytes for each sample", title="Bytes")
    axes.legend(fontsize=7)


def _latency(axes: Any, report: Report) -> None:
    rows = [row for row in report.what_if.rows if row.latency is not None]
    escalated = [100 * row.escalated for row in rows]
    for name, colour in (("p50_ms", BLUE), ("p99_ms", RED)):
        values = [getattr(row.latency, name) for row in rows]
        axes.plot(escalated, values, "o-", color=colour, ms=3, label=name.removesuffix("_ms"))
    axes.set(xlabel="escalated, %", ylabel="ms", title="Latency of all answers")
    axes.legend(fontsize=7)


def _points(
    axes: Any, places: Sequence[float], estimates: Sequence[Estimate], colour: str, label: str
) -> None:
    """Draws estimates with their intervals."""
    if not estimates:
        return
    values = np.array([each.value for each in estimates])
    below = values - [each.lower for each in estimates]
    above = np.array([each.upper for each in estimates]) - values
    # Rounding may put a limit on the wrong side of the value.
    spans = 100 * np.maximum([below, above], 0)
    axes.errorbar(places, 100 * values, yerr=spans, fmt="o", color=colour, ms=3, lw=0.8,
                  capsize=2, label=label or None)  # fmt: skip
