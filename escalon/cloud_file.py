"""The cloud that a command line names, and its pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cloud.config import CloudConfig
from escalon.cloud_option import CLOUD_VARIABLE
from escalon.usage import UsageError
from shared.config_file import ConfigFile


def read_cloud(path: Path | None, environment: Mapping[str, str]) -> CloudConfig:
    """Reads a cloud's YAML.

    Args:
        path: where it is; None where the command line does not say.
        environment: the process's.

    Raises:
        UsageError: no cloud is named.
        ConfigFileError: everything that is wrong with the YAML.
    """
    if path is None:
        raise UsageError(f"which cloud? Fix: --config cloud.yaml, or set {CLOUD_VARIABLE}")
    file = ConfigFile(path)
    if file.role != "cloud":
        raise file.wrong_role(["cloud"])
    return file.parse(CloudConfig, environment)


def known_pipeline(named: str, config: CloudConfig) -> str:
    """Returns the pipeline that is named.

    Raises:
        UsageError: the cloud has none of that name.
    """
    if named not in config.pipelines:
        known = ", ".join(config.pipelines)
        raise UsageError(f"there is no pipeline {named}; known are {known}")
    return named


def one_pipeline(named: str | None, config: CloudConfig) -> str:
    """Returns the pipeline that is named, or the only one.

    Raises:
        UsageError: there are several and none is named, or there is none of that name.
    """
    if named is None and len(config.pipelines) == 1:
        return next(iter(config.pipelines))
    if named is None:
        known = ", ".join(config.pipelines)
        raise UsageError(f"which pipeline? Fix: --pipeline with one of {known}")
    return known_pipeline(named, config)
