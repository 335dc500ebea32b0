"""The options of ``escalon what-if``."""

from __future__ import annotations

import argparse
import os
import re
import time
from datetime import datetime
from pathlib import Path

from escalon.release.arguments import user

EXAMPLES = """\
examples:
  escalon what-if cloud.yaml --pipeline meter                    a table of thresholds
  escalon what-if cloud.yaml --since 7d --plot what-if.svg       and a picture (extra `plots`)
  escalon what-if cloud.yaml --predictions answers.jsonl         with latencies, as recorded by
      mosquitto_sub -t 'escalon/+/meter/predictions/#' > answers.jsonl
  escalon what-if cloud.yaml --write 0.912345                    offer that threshold to the fleet

exit codes: 0 done, 1 refused or failed and was said, 2 the command line is wrong
"""

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to their part of the command line."""
    parser.add_argument("config", type=Path, metavar="FILE", help="the cloud's YAML")
    parser.add_argument("--pipeline", help="the pipeline (default: the only one)")
    parser.add_argument(
        "--since", type=since, default=0.0, metavar="WHEN",
        help="what came since 30m, 12h or 7d ago, or since a date as 2026-01-31 (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--tier1-version", metavar="V", help="whose traffic (default: the version that stands)"
    )
    parser.add_argument(
        "--predictions", type=Path, metavar="FILE",
        help="recorded predictions, a JSON a line, to take latencies from",
    )  # fmt: skip
    parser.add_argument(
        "--samples-a-message", type=_count, default=1, metavar="N",
        help="how many samples share a message, for the bytes (default: 1)",
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it: .svg, .png or .pdf")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--write", type=float, metavar="THRESHOLD",
        help="make a version of the release that stands with this threshold, and offer it",
    )  # fmt: skip
    parser.add_argument(
        "--uncertified", action="store_true", help="write it although nothing is promised of it"
    )
    parser.add_argument("--by", default=user(os.environ), metavar="NAME", help="who writes it")
    parser.set_defaults(channel=None, tier=1)  # what is spoken of is tier-1's threshold


def since(text: str) -> float:
    """Returns an instant, seconds since 1970, of ``7d`` (ago) or a date in local time."""
    if match := DURATION.fullmatch(text):
        return time.time() - float(match[1]) * UNITS_S[match[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text} is neither a time ago, as 30m, 12h or 7d, nor a date, as 2026-01-31"
        ) from None


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 65_536:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to 65,536")
    return value
