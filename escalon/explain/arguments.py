"""The options of ``escalon explain``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
examples:
  escalon explain a1 cloud.yaml                  the newest sample with that id, in any pipeline
  escalon explain a1 cloud.yaml --sensor cam-01 --site plant-a

exit codes: 0 told, 1 nothing is recorded of it, 2 the command line is wrong
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to their part of the command line."""
    parser.add_argument("id", metavar="ID", help="what its sensor calls the sample")
    parser.add_argument("config", type=Path, metavar="FILE", help="the cloud's YAML")
    parser.add_argument("--pipeline", help="the pipeline (default: any)")
    parser.add_argument("--site", help="of the sensor (default: any)")
    parser.add_argument("--sensor", help="who sent it (default: any that sent something lately)")
    parser.add_argument("--json", action="store_true", help="print JSON, of all that are found")
