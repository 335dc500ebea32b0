"""Chooses which candidate is kept. Pure: rows in, and which one, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from cloud.optimize.rows import Budget, Figures, Row
from shared.errors import ArtefactError

EQUAL_GAIN = 0.15
"""Three ratios are multiplied, each measured or rounded: gains this near, as a share of the most,
are the same."""


@dataclass(frozen=True)
class Choice:
    """What is kept.

    Attributes:
        kept: its row.
        rows: all rows, each with the reason why it is not kept.
        why: in words and figures.
    """

    kept: Row
    rows: tuple[Row, ...]
    why: str


def choose(rows: Sequence[Row], budget: Budget) -> Choice:
    """Keeps the candidate that gains most among those that hold the budget.

    What it gains is the product of how much smaller and how many times faster it is, at one sample
    and at a batch. Candidates that have all that is wished go first. Among those whose gain is
    within ``EQUAL_GAIN`` of the most, the one that agrees most with the float32 model is kept. That
    model itself always holds the budget, and gains 1.

    Args:
        rows: of all candidates, the float32 model among them.
        budget: what they are held to.

    Raises:
        ArtefactError: the float32 model was not measured.
    """
    refusals = {row.name: refusal(row, budget) for row in rows}
    fit = [row for row in rows if not refusals[row.name]]
    if not any(row.is_source for row in fit):
        raise ArtefactError("the float32 model itself could not be measured")
    wishes = {row.name: not missed(row, budget) for row in fit}
    first = [row for row in fit if wishes[row.name]] or fit
    most = max(map(gain, first))
    level = [row for row in first if gain(row) >= most * (1 - EQUAL_GAIN)]
    kept = max(level, key=lambda row: _figures(row).agreement)
    said = tuple(
        row if row is kept else msgspec.structs.replace(row, reason=_reason(row, kept, refusals))
        for row in rows
    )
    return Choice(kept, said, _why(kept, budget))


def refusal(row: Row, budget: Budget) -> str:
    """Returns why a candidate may not be kept; empty if it may."""
    found = row.figures
    if found is None:
        return row.reason or "it was not measured"
    if row.is_source:
        return ""
    if found.points_lost > budget.max_points_lost:
        what = "accuracy" if found.accuracy is not None else "agreement with fp32"
        return f"costs {found.points_lost:.2f} points of {what}, over {budget.max_points_lost:g}"
    if found.speed_1 < budget.min_speed_1 * (1 - budget.level):
        return f"slower than fp32 at one sample: {found.speed_1:.2f}x"
    if found.neighbour_shift > budget.max_neighbour_shift:
        return (
            "its answer depends on the other samples in the batch: a probability moved by "
            f"{found.neighbour_shift:.4f}, over {budget.max_neighbour_shift:g}"
        )
    return ""


def missed(row: Row, budget: Budget) -> list[str]:
    """Returns what a candidate that was measured lacks of what is wished, in words."""
    speed_32 = _figures(row).speed_32
    found = []
    if speed_32 < budget.wished_speed_32:
        found.append(f"{speed_32:.2f}x at a batch of 32, under {budget.wished_speed_32:g}")
    if row.size > budget.wished_size:
        found.append(f"{row.size:.3f} of the size, over {budget.wished_size:g}")
    return found


def gain(row: Row) -> float:
    """Returns what a candidate that was measured gains; 1 for the float32 model."""
    if row.is_source:
        return 1.0
    found = _figures(row)
    return found.speed_1 * found.speed_32 / row.size


def _figures(row: Row) -> Figures:
    if row.figures is None:
        raise ArtefactError(f"{row.name} was not measured")
    return row.figures


def _reason(row: Row, kept: Row, refusals: dict[str, str]) -> str:
    return refusals[row.name] or f"{kept.name} gains more or agrees more"


def _why(kept: Row, budget: Budget) -> str:
    if kept.is_source:
        return "fp32 is kept: no candidate gains anything within the budget"
    found = _figures(kept)
    figures = (
        f"{kept.name} is kept: {kept.size:.3f} of the size, {found.speed_1:.2f}x as fast at one "
        f"sample and {found.speed_32:.2f}x at a batch of 32, {found.points_lost:.2f} points lost"
    )
    lacks = missed(kept, budget)
    if not lacks:
        return figures
    return (
        f"{figures}. No candidate within the budget has all that is wished; this one: "
        + "; ".join(lacks)
    )
