"""What the roles' entry points share: read the file, set up the log, turn errors into words."""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from shared.config import NodeConfig
from shared.config_file import ConfigFile
from shared.errors import EscalonError
from shared.workers.config import TierConfig
from shared.workers.lifeline import hold_lifeline
from shared.workers.record import WorkersRecord
from shared.workers.supervisor import Supervisor
from shared.workers.worker import ALONE, Worker

LOG_FORMAT = "%(asctime)s %(levelname)s {who}%(name)s: %(message)s"

Config = TypeVar("Config", bound=NodeConfig)
Run = Callable[[Config, Worker], None]
"""Runs a node, or one of its workers, until it is told to stop."""


def set_up_log(level: str, worker: Worker | None = None) -> None:
    """Sends the log to standard error, where a supervisor picks it up.

    Args:
        level: what is shown.
        worker: which of a node's processes this is, for the lines to say.
    """
    who = "" if worker is None else f"w{worker.index} "
    logging.basicConfig(level=level.upper(), format=LOG_FORMAT.format(who=who), stream=sys.stderr)


def run_node(
    config: Config, path: Path, role: str, run: Run[Config], worker: Worker | None = None
) -> int:
    """Runs a node: in this process, or as workers in processes of their own.

    Args:
        config: the node.
        path: its YAML, which its workers read as well.
        role: its role.
        run: the role.
        worker: which of a node's processes this is; None for the one that the user started.

    Returns:
        The process's exit code.

    Raises:
        EscalonError: it cannot start.
    """
    set_up_log(config.log_level, worker)
    if worker is not None:
        hold_lifeline()
    elif isinstance(config, TierConfig):
        record = WorkersRecord(config.state_dir)
        known = max(config.workers, record.read())
        if known > 1:
            record.write(known)
            workers = [Worker(index, config.workers) for index in range(known)]
            command = [sys.executable, "-P", "-m", role, str(path.absolute())]
            rng = random.Random()  # noqa: S311 - jitter, not a secret
            return Supervisor(command, workers, rng, record.write).run()
    run(config, worker or ALONE)
    return 0


def run_file(
    path: Path, role: str, kind: type[Config], run: Run[Config], worker: Worker | None
) -> int:
    """Runs a node from its YAML.

    Args:
        path: the file.
        role: the role that it must have.
        kind: the role's configuration.
        run: the role.
        worker: which of a node's processes this is; None for the one that the user started.

    Returns:
        The process's exit code: 0, or 1 after an error that was said.
    """
    try:
        file = ConfigFile(path)
        if file.role != role:
            raise file.wrong_role([role])
        config = file.parse(kind, os.environ)
        return run_node(config, path, role, run, worker)
    except EscalonError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def main(role: str, kind: type[Config], run: Run[Config]) -> int:
    """Entry of ``python -m ROLE FILE``; returns the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {role}", description=f"Run a {role} node.")
    parser.add_argument("file", type=Path, help="the node's YAML")
    # For the supervisor, which starts the workers.
    parser.add_argument("--worker", type=Worker.parse, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    return run_file(arguments.file, role, kind, run, arguments.worker)
