"""The option that names the cloud a command speaks of."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

CLOUD_VARIABLE = "ESCALON_CLOUD"


def add_cloud_option(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Adds ``--config``.

    Args:
        parser: of the command.
        required: whether argparse itself refuses a command line that names no cloud.
    """
    named = os.environ.get(CLOUD_VARIABLE)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=Path(named) if named else None,
        required=required and named is None,
        help=f"the cloud's YAML (or {CLOUD_VARIABLE} in the environment)",
    )  # fmt: skip
