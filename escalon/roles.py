"""The three roles and how each is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.config import NodeConfig
from shared.config_file import ConfigFile
from shared.workers.worker import Worker


@dataclass(frozen=True)
class Role:
    """A role.

    Attributes:
        name: its name.
        config: its configuration model.
        run: runs a node, or one of its workers, until it is told to stop.
    """

    name: str
    config: type[NodeConfig]
    run: Callable[[Any, Worker], None]


def load_role(name: str) -> Role | None:
    """Returns a role by its name, or None. Imports no more than that role needs."""
    if name == "tier1":
        from tier1.__main__ import run as run_tier1
        from tier1.config import Tier1Config

        return Role(name, Tier1Config, run_tier1)
    if name == "tier2":
        from tier2.__main__ import run as run_tier2
        from tier2.config import Tier2Config

        return Role(name, Tier2Config, run_tier2)
    if name == "cloud":
        from cloud.__main__ import run as run_cloud
        from cloud.config import CloudConfig

        return Role(name, CloudConfig, run_cloud)
    return None


ROLES = ("tier1", "tier2", "cloud")


def check(path: Path, environment: Mapping[str, str]) -> tuple[Role, NodeConfig]:
    """Reads a node's YAML and checks it against its role.

    Raises:
        ConfigFileError: everything that is wrong with it.
    """
    file = ConfigFile(path)
    role = load_role(file.role)
    if role is None:
        raise file.wrong_role(ROLES)
    return role, file.parse(role.config, environment)
