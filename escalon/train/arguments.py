"""The options of ``escalon train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from escalon.cloud_option import add_cloud_option

EXAMPLES = """\
examples (with --config cloud.yaml, or ESCALON_CLOUD=cloud.yaml in the environment):
  escalon train try/                     the first models of the only pipeline, as the cloud would
  escalon train try/ --pipeline meter    of one of several
  escalon train try/ --json              what came of it, for a program

It trains in try/, which holds candidate/ afterwards; nothing is published. The same again trains
nothing; after a change of `training:` it trains anew.

exit codes: 0 there is a candidate, 1 it failed and was said, 2 the command line is wrong
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to their part of the command line."""
    parser.add_argument("folder", type=Path, help="where to train")
    add_cloud_option(parser, required=True)
    parser.add_argument("--pipeline", help="whose models (default: the only one that is trained)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
