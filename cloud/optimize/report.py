"""The report on all candidates of a model, and what is usually claimed held against it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from cloud.optimize.machine import Machine
from cloud.optimize.rows import Budget, Figures, Row
from shared.scores import ScoreKind

SCHEMA_VERSION = 1


class Claim(msgspec.Struct, frozen=True):
    """What is usually claimed of 8 bits, and what is found here.

    Attributes:
        what: the figure.
        claimed: in words.
        here: of the candidate that is kept.
        holds: whether it is as claimed, or better.
        low: the smallest among the candidates that loaded, the float32 model left out.
        high: the largest among them.
    """

    what: str
    claimed: str
    here: float
    holds: bool
    low: float
    high: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of all candidates.

    Attributes:
        kept: name of the candidate that is kept.
        why: in words and figures.
        rows: every candidate.
        budget: what they were held to.
        machine: what the figures depend on.
        labels: scores that the model gives to a sample.
        scores: what they are.
        calibrated: inputs that ranges were taken from.
        labelled: test inputs with a right answer; 0 where agreement stands for accuracy.
        seconds: how long it all took.
    """

    kept: str
    why: str
    rows: tuple[Row, ...]
    budget: Budget
    machine: Machine
    labels: int
    scores: ScoreKind
    calibrated: int
    labelled: int
    seconds: float

    @property
    def kept_row(self) -> Row:
        """The candidate that is kept."""
        return next(row for row in self.rows if row.name == self.kept)

    @property
    def claims(self) -> list[Claim]:
        """What is usually claimed, held against the candidates."""
        return [claim for each in CLAIMS if (claim := each.checked(self)) is not None]


class _Usual(NamedTuple):
    what: str
    claimed: str
    figure: Callable[[Row, Figures], float]
    holds: Callable[[float], bool]

    def checked(self, report: Report) -> Claim | None:
        kept = report.kept_row
        found = [
            self.figure(row, row.figures)
            for row in report.rows
            if row.figures is not None and not row.is_source
        ]
        if kept.figures is None or not found:
            return None
        here = self.figure(kept, kept.figures)
        return Claim(self.what, self.claimed, here, self.holds(here), min(found), max(found))


CLAIMS: Sequence[_Usual] = (
    _Usual(
        "smaller by, %", "75 %", lambda row, _: 100 * (1 - row.size), lambda found: found >= 75
    ),
    _Usual(
        "faster at one sample, x", "2 to 4x", lambda _, found: found.speed_1,
        lambda found: found >= 2,
    ),
    _Usual(
        "faster at a batch of 32, x", "2 to 4x", lambda _, found: found.speed_32,
        lambda found: found >= 2,
    ),
    _Usual(
        "points lost", "below 1", lambda _, found: found.points_lost, lambda found: found < 1
    ),
)  # fmt: skip
"""What vendors and tutorials say of quantization to 8 bits."""


def as_json(report: Report) -> bytes:
    """Returns the report as one object."""
    whole = msgspec.to_builtins(report) | {
        "schema_version": SCHEMA_VERSION,
        "claims": msgspec.to_builtins(report.claims),
    }
    return msgspec.json.format(msgspec.json.encode(whole)) + b"\n"


def as_text(report: Report) -> str:
    """Returns the report for a terminal."""
    right = (
        f"{report.labelled} labels" if report.labelled else "fp32's own answers, for want of labels"
    )
    machine = report.machine
    return "\n".join(
        [
            f"{machine.cpu}, {'with' if machine.sums_8_bits else 'without'} VNNI, one thread, "
            f"ONNX Runtime {machine.runtime}",
            f"calibrated on {report.calibrated} inputs, held against {right}; "
            f"{report.seconds:.1f} s",
            "",
            *_columns([HEADS, *map(_cells, report.rows)]),
            "",
            *_columns([CLAIM_HEADS, *map(_claim_cells, report.claims)]),
            "",
            report.why,
            "",
        ]
    )


HEADS = (
    "",
    "bytes",
    "size",
    "1: ms",
    "32: ms",
    "1: speed",
    "32: speed",
    "right",
    "as fp32",
    "neighbours",
    "why not",
)
CLAIM_HEADS = ("", "claimed", "here", "", "all candidates")


def _cells(row: Row) -> Sequence[str]:
    start = (row.name, str(row.bytes or "-"), f"{row.size:.3f}" if row.bytes else "-")
    found = row.figures
    if found is None:
        return (*start, *["-"] * 7, row.reason)
    right = "-" if found.accuracy is None else f"{100 * found.accuracy:.2f} %"
    return (
        *start,
        f"{found.latency_1_ms:.4g}",
        f"{found.latency_32_ms:.4g}",
        f"{found.speed_1:.2f}x",
        f"{found.speed_32:.2f}x",
        right,
        f"{100 * found.agreement:.2f} %",
        f"{found.neighbour_shift:.4f}",
        row.reason or "kept",
    )


def _claim_cells(claim: Claim) -> Sequence[str]:
    holds = "holds" if claim.holds else "does not hold"
    return (
        claim.what,
        claim.claimed,
        f"{claim.here:.2f}",
        holds,
        f"{claim.low:.2f} to {claim.high:.2f}",
    )


def _columns(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
