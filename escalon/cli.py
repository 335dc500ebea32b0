"""The command line."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import shared
from escalon.demo.arguments import add_arguments as add_demo_arguments
from escalon.explain.arguments import EXAMPLES as EXPLAIN_EXAMPLES
from escalon.explain.arguments import add_arguments as add_explain_arguments
from escalon.keys.arguments import EXAMPLES as KEYS_EXAMPLES
from escalon.keys.arguments import add_arguments as add_keys_arguments
from escalon.labels.arguments import EXAMPLES as LABELS_EXAMPLES
from escalon.labels.arguments import add_arguments as add_labels_arguments
from escalon.optimize.arguments import EXAMPLES as OPTIMIZE_EXAMPLES
from escalon.optimize.arguments import add_arguments as add_optimize_arguments
from escalon.release.arguments import EXAMPLES as RELEASE_EXAMPLES
from escalon.release.arguments import add_arguments as add_release_arguments
from escalon.roles import check
from escalon.train.arguments import EXAMPLES as TRAIN_EXAMPLES
from escalon.train.arguments import add_arguments as add_train_arguments
from escalon.usage import UsageError
from escalon.what_if.arguments import EXAMPLES as WHAT_IF_EXAMPLES
from escalon.what_if.arguments import add_arguments as add_what_if_arguments
from shared.config_file import ConfigFileError
from shared.entry import run_node
from shared.errors import EscalonError

EXAMPLES = """\
examples:
  escalon demo                                    a whole hierarchy on this machine, on real input
  escalon validate tier1.yaml tier2.yaml          look for mistakes before a node does
  escalon run tier1.yaml                          run one node; its YAML says which role it has
  escalon keys init keys/                         keys that sign releases, and whom nodes trust
  escalon release status --config cloud.yaml      how new versions reach the fleet
  escalon what-if cloud.yaml                      what other thresholds would have done
  escalon explain a1 cloud.yaml                   what became of one sample, and why
  escalon labels queue --config cloud.yaml        what people are asked to label today
  escalon optimize m.onnx --data samples.npz      a model made smaller and faster, with figures
  escalon train try/ --config cloud.yaml          the first models of a pipeline, here and now

exit codes: 0 all is well, 1 something is wrong and was said, 2 the command line is wrong
"""

STORE = ("scipy", "sqlalchemy")
"""What the telemetry store imports."""

DEMO_EXAMPLES = """\
examples:
  escalon demo                                    watch it
  escalon demo --plain --seed 3 --report r.json   lines only, and the figures as JSON
  escalon demo --keep-running                     leave it up and be a sensor yourself
  escalon demo --broker mqtt://127.0.0.1:1883     use a broker that runs already
"""


def _run_node(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    role, config = check(path, os.environ)
    return run_node(config, path, role.name, role.run)


def _validate(arguments: argparse.Namespace) -> int:
    wrong = 0
    for path in arguments.files:
        try:
            _, config = check(path, os.environ)
        except ConfigFileError as error:
            print(error)
            wrong += len(error.issues)
        else:
            print(f"{path}: ok ({config.node} on {config.site})")
    return 1 if wrong else 0


def _keys(arguments: argparse.Namespace) -> int:
    from escalon.keys.command import run_keys

    print(run_keys(arguments))
    return 0


def _release(arguments: argparse.Namespace) -> int:
    from escalon.release.command import run_release

    return _act("release", arguments, lambda: run_release(arguments, os.environ, sys.stdout))


def _labels(arguments: argparse.Namespace) -> int:
    _need("the store needs the cloud's extra", "cloud", *STORE)
    from escalon.labels.command import run_labels

    return _act("labels", arguments, lambda: run_labels(arguments, os.environ, sys.stdout))


def _what_if(arguments: argparse.Namespace) -> int:
    _need("the store needs the cloud's extra", "cloud", *STORE)
    from escalon.what_if.command import run_what_if

    return _act("what-if", arguments, lambda: run_what_if(arguments, os.environ, sys.stdout))


def _explain(arguments: argparse.Namespace) -> int:
    _need("the store needs the cloud's extra", "cloud", *STORE)
    from escalon.explain.command import run_explain

    return _act("explain", arguments, lambda: run_explain(arguments, os.environ, sys.stdout))


def _optimize(arguments: argparse.Namespace) -> int:
    _need("to optimize needs the extra", "cloud", "onnx")
    from escalon.optimize.command import run_optimize

    return _act("optimize", arguments, lambda: run_optimize(arguments, sys.stdout, sys.stderr))


def _train(arguments: argparse.Namespace) -> int:
    _need("to train needs the extra", "cloud", "onnx", "sklearn")
    from escalon.train.command import run_train

    return run_train(arguments, os.environ, sys.stdout, sys.stderr)


def _demo(arguments: argparse.Namespace) -> int:
    _need("the demo needs its extra", "demo", "rich", "sklearn")
    from escalon.demo.command import run_demo

    return run_demo(arguments)


def _need(words: str, extra: str, *packages: str) -> None:
    if any(importlib.util.find_spec(name) is None for name in packages):
        raise EscalonError(f"{words}: pip install 'escalon[{extra}]'")


def _act(name: str, arguments: argparse.Namespace, run: Callable[[], int]) -> int:
    """Runs a command that has exit codes of its own, and says what was wrong as it was asked to."""
    try:
        return run()
    except EscalonError as error:
        if arguments.json:
            print(json.dumps({"error": str(error)}))
        if not isinstance(error, UsageError):
            raise
        print(f"escalon {name}: {error}", file=sys.stderr)
        return 2


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the node's YAML")


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a node's YAML")


@dataclass(frozen=True)
class Command:
    """A command of ``escalon``.

    Attributes:
        words: what it does, in a few words.
        add: adds its options to its parser.
        run: runs it; returns the exit code. It imports what only this command needs.
        examples: at the end of its help.
    """

    words: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    examples: str | None = None


COMMANDS = {
    "run": Command("run one node from its YAML", _add_file, _run_node),
    "validate": Command("check configurations without running them", _add_files, _validate),
    "keys": Command("the keys that sign releases", add_keys_arguments, _keys, KEYS_EXAMPLES),
    "release": Command(
        "versions and their rollouts", add_release_arguments, _release, RELEASE_EXAMPLES
    ),
    "what-if": Command(
        "what other thresholds would have done", add_what_if_arguments, _what_if, WHAT_IF_EXAMPLES
    ),
    "explain": Command(
        "what became of one sample", add_explain_arguments, _explain, EXPLAIN_EXAMPLES
    ),
    "labels": Command(
        "labels of people, and what they are asked about",
        add_labels_arguments,
        _labels,
        LABELS_EXAMPLES,
    ),
    "optimize": Command(
        "a model made smaller and faster", add_optimize_arguments, _optimize, OPTIMIZE_EXAMPLES
    ),
    "train": Command(
        "train a pipeline's first models", add_train_arguments, _train, TRAIN_EXAMPLES
    ),
    "demo": Command("a whole hierarchy on this machine", add_demo_arguments, _demo, DEMO_EXAMPLES),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of ``escalon``; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return COMMANDS[arguments.command].run(arguments)
    except ConfigFileError as error:
        print(error, file=sys.stderr)
    except EscalonError as error:
        print(f"escalon: {error}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="escalon",
        description="A cascade of ONNX models across a hierarchy of edge nodes over MQTT.",
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"escalon {shared.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, each in COMMANDS.items():
        each.add(
            commands.add_parser(name, help=each.words, epilog=each.examples, formatter_class=raw)
        )
    return parser
