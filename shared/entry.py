"""What the roles' entry points share: read the file, set up the log, turn errors into words."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from shared.config import NodeConfig
from shared.config_file import ConfigFile
from shared.errors import EscalonError

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

Config = TypeVar("Config", bound=NodeConfig)


def set_up_log(level: str) -> None:
    """Sends the log to standard error, where a supervisor picks it up."""
    logging.basicConfig(level=level.upper(), format=LOG_FORMAT, stream=sys.stderr)


def run_file(path: Path, role: str, kind: type[Config], run: Callable[[Config], None]) -> int:
    """Runs a node from its YAML.

    Args:
        path: the file.
        role: the role that it must have.
        kind: the role's configuration.
        run: the role.

    Returns:
        The process's exit code: 0, or 1 after an error that was said.
    """
    try:
        file = ConfigFile(path)
        if file.role != role:
            raise file.wrong_role([role])
        config = file.parse(kind, os.environ)
        set_up_log(config.log_level)
        run(config)
    except EscalonError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def main(role: str, kind: type[Config], run: Callable[[Config], None]) -> int:
    """Entry of ``python -m ROLE FILE``; returns the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {role}", description=f"Run a {role} node.")
    parser.add_argument("file", type=Path, help="the node's YAML")
    return run_file(parser.parse_args().file, role, kind, run)
