"""The options of ``escalon release``."""

from __future__ import annotations

import argparse
import getpass
import math
import os
from collections.abc import Mapping
from pathlib import Path

from escalon.argument_types import number, positive
from escalon.cloud_option import add_cloud_option
from shared.releases.artefact import URL

EXAMPLES = """\
examples (with --config cloud.yaml, or ESCALON_CLOUD=cloud.yaml in the environment):
  escalon release publish model.onnx --pipeline meter --tier 1 --golden golden.npz --threshold 0.9
  escalon release status --watch                 until the rollouts have ended or gone back
  escalon release promote --channel meter-tier1  the next wave now
  escalon release halt --channel meter-tier1     and `resume`, `rollback`, `retry`
  escalon release files meter-tier1/3 --to www/  what `publish --url https://…/` is to find there
  escalon release diff meter-tier1/2 meter-tier1/3

exit codes: 0 done, 1 refused or failed and was said, 2 the command line is wrong;
  status: 0 complete or nothing, 3 running, paused or going back, 4 halted, aborted, rolled back
"""

PUBLISH_EXAMPLES = """\
examples:
  python -c 'import numpy as np; np.savez("golden.npz", inputs=np.load("samples.npy")[:8])'
  escalon release publish model.onnx --pipeline meter --tier 1 --golden golden.npz --threshold 0.9
  escalon release publish full.onnx --pipeline meter --tier 2 --golden golden.npz \\
      --scores probabilities
  escalon release publish int8.onnx --fp32 model.onnx --channel meter-tier1 --golden golden.npz \\
      --threshold 0.9 --version night-shift --notes "less glare"

Golden inputs are 1 to 64 samples as sensors send them, float32, without the model's own answers.
"""

STATUS_EXAMPLES = """\
examples:
  escalon release status                               all channels
  escalon release status --channel meter-tier1 --watch until its rollout has ended
  escalon release status --channel meter-tier1 --json | python -m json.tool

exit codes: 0 complete or nothing, 3 running or paused, or rolled back and nodes have yet to go
  back, 4 halted, aborted or rolled back; `settled` in JSON: all that are online run what stands
"""

ACTIONS = {
    "promote": "begin the next wave now",
    "pause": "begin no other wave; nodes of those so far go on",
    "resume": "go on after a pause or a halt",
    "halt": "take the offer back: who has not swapped stops",
    "rollback": "end the rollout, and bring the version before to every node",
    "retry": "offer the version again, to nodes on which it failed as well",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the commands to their part of the command line."""
    commands = parser.add_subparsers(dest="release_command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="all versions")
    show = commands.add_parser("show", help="one version")
    show.add_argument("version", metavar="V", help="a version, or CHANNEL/VERSION")
    diff = commands.add_parser("diff", help="what differs between two versions")
    diff.add_argument("versions", metavar="V", nargs=2, help="a version, or CHANNEL/VERSION")
    publish = commands.add_parser(
        "publish", help="publish a model that was made elsewhere",
        epilog=PUBLISH_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_publish(publish)
    files = commands.add_parser("files", help="write a version's files as a web server needs them")
    files.add_argument("version", metavar="V", help="a version, or CHANNEL/VERSION")
    files.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where they go")
    offer = commands.add_parser("offer", help="roll out a version that is in the registry")
    offer.add_argument("version", metavar="V", help="a version, or CHANNEL/VERSION")
    actions = [commands.add_parser(name, help=text) for name, text in ACTIONS.items()]
    status = commands.add_parser(
        "status", help="how the rollouts stand, node by node",
        epilog=STATUS_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    status.add_argument("--watch", action="store_true", help="until all have ended or gone back")
    for command in (listing, show, diff, publish, files, offer, *actions, status):
        _add_scope(command)


def _add_scope(parser: argparse.ArgumentParser) -> None:
    add_cloud_option(parser)
    parser.add_argument("--channel", help="the channel")
    parser.add_argument("--pipeline", help="the pipeline, which with --tier names the channel")
    parser.add_argument("--tier", type=int, choices=(1, 2), help="whose model")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_publish(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", type=Path, nargs="+", metavar="MODEL.onnx",
        help="the model; several files of it, of which a node takes the fastest on it",
    )  # fmt: skip
    parser.add_argument("--fp32", type=Path, metavar="FILE", help="the same model as fp32")
    parser.add_argument(
        "--golden", type=Path, required=True, metavar="FILE.npz",
        help="`inputs` (or `x`) that every node tries it with; the model's `scores`, if any",
    )  # fmt: skip
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="one a line, or a JSON list (default: YAML)"
    )
    parser.add_argument(
        "--threshold",
        type=_certainty,
        metavar="T",
        help="tier-1 accepts from this certainty on, 0 to 1",
    )
    parser.add_argument(
        "--temperature", type=positive, default=1.0, metavar="T", help="divides the logits"
    )
    parser.add_argument(
        "--scores", choices=("logits", "probabilities"), default="logits",
        help="what the model answers (default: logits)",
    )  # fmt: skip
    parser.add_argument("--version", metavar="NAME", help="its name (default: the next number)")
    parser.add_argument("--notes", default="", metavar="TEXT", help="kept with the version")
    parser.add_argument(
        "--parent", action="append", default=[], metavar="CHANNEL/VERSION",
        help="what it was made from (default: what the fleet is to run and was not taken back)",
    )  # fmt: skip
    parser.add_argument(
        "--metric", type=_metric, action="append", default=[], metavar="NAME=NUMBER",
        help="a figure of its making, kept with the version",
    )  # fmt: skip
    parser.add_argument(
        "--url", type=_url, metavar="PREFIX",
        help="a web server from which nodes are to fetch the files (see `files`)",
    )  # fmt: skip
    parser.add_argument("--by", default=user(os.environ), metavar="NAME", help="who publishes it")


def user(environment: Mapping[str, str]) -> str:
    """Returns who runs this; a container may have no name for it."""
    try:
        return environment.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _certainty(text: str) -> float:
    if (value := number(text)) > 1:
        raise argparse.ArgumentTypeError(f"{text} is above 1, so that no sample would be accepted")
    return value


def _url(text: str) -> str:
    if not URL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text} does not begin with http:// or https://")
    return text


def _metric(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not NAME=NUMBER")
    return name, value
