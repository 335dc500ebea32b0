"""The options of ``escalon labels``."""

from __future__ import annotations

import argparse
from pathlib import Path

from escalon.cloud_option import add_cloud_option

EXAMPLES = """\
examples (with --config cloud.yaml, or ESCALON_CLOUD=cloud.yaml in the environment):
  escalon labels queue --to today.csv           what tier-2 is least sure of, to be filled in
  escalon labels queue --inputs today.npz       and the inputs, to look at
  escalon labels import today.csv --by ada      columns: site, sensor, id, label [, by, timestamp]
  escalon labels export --to labels.csv         all labels that the store has

exit codes: 0 done, 1 refused or failed and was said, 2 the command line is wrong
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the commands to their part of the command line."""
    commands = parser.add_subparsers(dest="labels_command", required=True, metavar="COMMAND")
    queue = commands.add_parser("queue", help="what people are asked to label today")
    queue.add_argument("--to", type=Path, metavar="FILE.csv", help="write it, to be filled in")
    queue.add_argument(
        "--inputs", type=Path, metavar="FILE.npz", help="write the inputs: `inputs`, `sensor`, `id`"
    )
    taken = commands.add_parser("import", help="take labels from a CSV file: all of them or none")
    taken.add_argument("file", type=Path, metavar="FILE.csv", help="the file")
    taken.add_argument("--site", help="of all samples, where the file has no column `site`")
    taken.add_argument("--by", default="", metavar="NAME", help="who says so, where it does not")
    export = commands.add_parser("export", help="write the labels that the store has")
    export.add_argument("--to", type=Path, metavar="FILE.csv", help="where to (default: print)")
    for command in (queue, taken, export):
        _add_scope(command)


def _add_scope(parser: argparse.ArgumentParser) -> None:
    add_cloud_option(parser)
    parser.add_argument("--pipeline", help="the pipeline, where the cloud has several")
    parser.add_argument("--json", action="store_true", help="print JSON")
