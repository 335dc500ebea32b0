"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bench.rows import BY_KEY


class Arguments(argparse.Namespace):
    """What was asked for.

    Attributes:
        json: where the result goes as JSON, if anywhere.
        markdown: where it goes as Markdown, if anywhere.
        only: keys of the rows to measure.
        runs: interleaved runs of each contestant; None for as many as planned.
        quick: whether runs are short and few.
        check: whether a missed target makes the exit code 1.
    """

    json: Path | None
    markdown: Path | None
    only: tuple[str, ...]
    runs: int | None
    quick: bool
    check: bool


def parse_arguments(arguments: Sequence[str] | None = None) -> Arguments:
    """Parses the command line; ends the process with a usage message where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the usual script, a bare echo and our node side by side.",
    )
    parser.add_argument("--json", type=_file, metavar="FILE", help="write the result as JSON")
    parser.add_argument(
        "--markdown", type=_file, metavar="FILE",
        help="write it as Markdown, between the marks of a document that has them",
    )  # fmt: skip
    parser.add_argument(
        "--only", type=_keys, default=tuple(BY_KEY), metavar="KEY,…",
        help=f"measure these rows: {', '.join(BY_KEY)}",
    )  # fmt: skip
    parser.add_argument("--runs", type=_count, metavar="N", help="runs of each contestant, 1 to 50")
    parser.add_argument("--quick", action="store_true", help="few, short runs: a look, no figures")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    return parser.parse_args(arguments, Arguments())


def _file(text: str) -> Path:
    path = Path(text)
    if not path.parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no file in an existing folder")
    return path


def _keys(text: str) -> tuple[str, ...]:
    keys = tuple(dict.fromkeys(text.split(",")))
    unknown = [key for key in keys if key not in BY_KEY]
    if unknown:
        raise argparse.ArgumentTypeError(f"no row {', '.join(unknown)}; rows: {', '.join(BY_KEY)}")
    return keys


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 50:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to 50")
    return int(text)
