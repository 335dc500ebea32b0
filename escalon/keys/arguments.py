"""The options of ``escalon keys``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
examples:
  escalon keys init keys/                       one root key, one release key, the trust file
  escalon keys init keys/ --root 3 --threshold 2
  escalon keys show keys/                       which keys are in force
  escalon keys rotate keys/                     another release key
  escalon keys rotate keys/ --root 3 --threshold 2    other root keys
  escalon keys revoke keys/ 4f2a                a release key that was stolen, by its id

The root keys sign the trust file and nothing else: keep them offline. Put trust file and release
key where the cloud's YAML names them: it notices, and the trust file travels down to every node.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the commands to their part of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="keys_command", required=True, metavar="COMMAND")
    init = commands.add_parser("init", help="found a fleet: make keys and the first trust file")
    rotate = commands.add_parser("rotate", help="put other keys in the place of those in force")
    revoke = commands.add_parser("revoke", help="take out a release key that was stolen")
    show = commands.add_parser("show", help="say which keys are in force")
    for command in (init, rotate, revoke, show):
        command.formatter_class = raw
        command.add_argument("folder", type=Path, help="where keys and trust files are")
        command.add_argument("--json", action="store_true", help="print the trust document")
    init.add_argument("--root", type=_count, default=1, metavar="N", help="root keys (default 1)")
    rotate.add_argument("--root", type=_count, metavar="N", help="so many new root keys")
    for command in (init, rotate):
        command.add_argument(
            "--threshold", type=_count, metavar="K",
            help="so many root keys must sign the next version (default 1)",
        )  # fmt: skip
        command.set_defaults(refuse=command.error)
    revoke.add_argument("key", help="id of the stolen key, or the beginning of it")
    for command in (rotate, revoke):
        command.add_argument(
            "--root-key", type=Path, action="append", default=[], metavar="FILE",
            help="a root key that is not in the folder; may be given several times",
        )  # fmt: skip


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 16:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to 16")
    return int(text)
